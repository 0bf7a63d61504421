"""Works on many small keys behind sshd: what one key costs there."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.arena import SSH_HOSTS, Arena, Cluster
from tests.benchmarks.local_small import TIMES
from tests.benchmarks.login import pipe
from tests.benchmarks.measure import Side, alternate
from tests.benchmarks.report import Row


def ssh_map_tiny(arena: Arena) -> Iterator[Row]:
    """Map ``cat`` over the tiny keys, on hosts behind sshd and on as many local ones."""
    took, limit = alternate(TIMES, _map(arena, arena.ssh_cluster()), _map(arena, arena.cluster(SSH_HOSTS)))
    yield Row(f"map cat, {arena.scaled(5000)} keys vs local hosts", took, limit, 1.1)


def _map(arena: Arena, sshmap: Cluster) -> Side:
    source = arena.held("tiny", sshmap)
    return Side(lambda: sshmap("map", source, "sm://mapped/", "cat"), lambda: sshmap("rm", "-r", "sm://mapped/"))


def ssh_cp_tiny(arena: Arena) -> Iterator[Row]:
    """Copy the tiny files in and out, and the same with tar."""
    sshmap, hosts = arena.ssh_cluster(), arena.sshd()
    source, far, near = arena.held("tiny", sshmap), arena.fresh("far"), arena.fresh("near")
    into = Side(lambda: sshmap("cp", "-r", str(arena.tiny), "sm://copied/"), lambda: sshmap("rm", "-r", "sm://copied/"))
    out = Side(lambda: sshmap("cp", "-r", source, f"{arena.top}/out/"), lambda: arena.fresh("out"))
    tar_in = Side(lambda: pipe(hosts, f"tar -C {arena.tiny} -c . |", f"tar -C {far} -x", ""))
    tar_out = Side(
        lambda: pipe(hosts, "", f"tar -C {far} -c .", f"| tar -C {near} -x"),
        lambda: (arena.fresh("near"), arena.fresh("far")),
    )
    took_in, took_out, limit_in, limit_out = alternate(TIMES, into, out, tar_in, tar_out)
    yield Row(f"cp -r in, {arena.scaled(5000)} files vs ssh tar", took_in, limit_in, 3)
    yield Row(f"cp -r out, {arena.scaled(5000)} files vs ssh tar", took_out, limit_out, 3)
