"""Works on many small keys behind sshd: what one key costs there."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.arena import SSH_HOSTS, Arena, Cluster
from tests.benchmarks.local_jobs import fanout, fanout_loop
from tests.benchmarks.local_small import TIMES
from tests.benchmarks.login import pipe
from tests.benchmarks.measure import Side, alternate
from tests.benchmarks.report import Row


def ssh_map_tiny(arena: Arena) -> Iterator[Row]:
    """Map ``cat`` over the tiny keys, on hosts behind sshd and on as many local ones."""
    clusters = arena.ssh_cluster(), arena.cluster(SSH_HOSTS)
    took, limit = alternate(TIMES, *(_map(arena, sshmap) for sshmap in clusters))
    yield Row(f"map cat, {arena.scaled(5000)} keys vs local hosts", took, limit, 1.1)


def _map(arena: Arena, sshmap: Cluster) -> Side:
    source = arena.held("tiny", sshmap)
    return Side(lambda: sshmap("map", source, f"sm://{arena.unused('mapped')}/", "cat"))


def ssh_fanout_tiny(arena: Arena) -> Iterator[Row]:
    """Fan each tiny key out to one file, of which two thirds go to another host behind sshd."""
    took, limit = alternate(TIMES, fanout(arena, arena.ssh_cluster()), fanout_loop(arena))
    yield Row(f"fanout, {arena.scaled(5000)} keys over ssh vs xargs bash", took, limit, 0.95)


def ssh_cp_tiny(arena: Arena) -> Iterator[Row]:
    """Copy the tiny files in and out, and the same with tar."""
    sshmap, hosts = arena.ssh_cluster(), arena.sshd()
    source, far, near = arena.held("tiny", sshmap), arena.fresh("far"), arena.fresh("near")

    def tar_in() -> None:
        folder = far / arena.unused("in")
        pipe(hosts, f"tar -C {arena.tiny} -c . |", f"mkdir {folder}; tar -C {folder} -x", "")

    def tar_out() -> None:
        folder = near / arena.unused("out")
        pipe(hosts, "", f"tar -C {arena.tiny} -c .", f"| (mkdir {folder}; tar -C {folder} -x)")

    sides = (
        Side(lambda: sshmap("cp", "-r", str(arena.tiny), f"sm://{arena.unused('copied')}/")),
        Side(lambda: sshmap("cp", "-r", source, f"{near / arena.unused('out')}/")),
    )
    took_in, took_out, limit_in, limit_out = alternate(TIMES, *sides, Side(tar_in), Side(tar_out))
    yield Row(f"cp -r in, {arena.scaled(5000)} files vs ssh tar", took_in, limit_in, 3)
    yield Row(f"cp -r out, {arena.scaled(5000)} files vs ssh tar", took_out, limit_out, 3)
