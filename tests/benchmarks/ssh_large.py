"""Works on large keys behind sshd: what a byte costs on its way."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.arena import SSH_HOSTS, Arena, Cluster
from tests.benchmarks.local_large import PARTITION
from tests.benchmarks.login import at_once, login, pipe
from tests.benchmarks.measure import Side, alternate
from tests.benchmarks.report import Row

TIMES, TURNS, ROW = 5, 3, 2


class _Copies(NamedTuple):
    """One way to copy a file, in both directions."""

    into: Side
    out: Side


def ssh_cp_big(arena: Arena) -> Iterator[Row]:
    """Copy one big file in and out, with the transport that is the default and with fabric alone."""
    auto, fabric, plain = (
        _sshmap(arena, "auto", arena.big),
        _sshmap(arena, "fabric", arena.big),
        _plain(arena, arena.big),
    )
    took = alternate(TIMES, *auto, *fabric, *plain)
    size = f"{arena.scaled(1024)} MiB"
    for name, (took_in, took_out), bounds in (("auto", took[0:2], (1.5, 1.3)), ("fabric", took[2:4], (2, 2.5))):
        yield Row(f"cp in, {size}, {name} vs ssh cat", took_in, took[4], bounds[0])
        yield Row(f"cp out, {size}, {name} vs ssh cat", took_out, took[5], bounds[1])


def ssh_cp_huge(arena: Arena) -> Iterator[Row]:
    """Copy a file out that is so large that the start of the command no longer counts."""
    (into, out), (plain_in, plain_out) = _sshmap(arena, "auto", arena.huge), _plain(arena, arena.huge)
    _, took, _, limit = alternate(TURNS, into, out, plain_in, plain_out)
    yield Row(f"cp out, {arena.scaled(4096)} MiB, auto vs ssh cat", took, limit, 1.15)


def _sshmap(arena: Arena, transport: str, file: Path) -> _Copies:
    """Copy with the command; the file that came in goes out before it is removed."""
    sshmap, out, key = arena.ssh_cluster(transport), arena.fresh("out"), f"sm://one/{file.name}"

    def clear() -> None:
        arena.fresh("out")
        sshmap("rm", key)

    return _Copies(
        Side(lambda: sshmap("cp", str(file), key)),
        Side(lambda: sshmap("cp", key, f"{out}/"), clear),
    )


def _plain(arena: Arena, file: Path) -> _Copies:
    """Copy with ``cat`` at the far end of the ssh program."""
    hosts, out, far = arena.sshd(), arena.fresh("out"), arena.fresh("far")
    return _Copies(
        Side(lambda: pipe(hosts, "", f"cat > {far}/copy", f"< {file}")),
        Side(
            lambda: pipe(hosts, "", f"cat {far}/copy", f"> {out}/copy"),
            lambda: (arena.fresh("out"), arena.fresh("far")),
        ),
    )


def ssh_cp_trips(arena: Arena) -> Iterator[Row]:
    """Copy the CSV files from and to all hosts, and the same with a tar for each host at once."""
    sshmap, source, near = arena.ssh_cluster(), arena.held("trips", arena.ssh_cluster()), arena.top / "near"
    into = Side(
        lambda: sshmap("cp", "-r", str(arena.trips), "sm://copied/"), lambda: sshmap("rm", "-r", "sm://copied/")
    )
    out = Side(lambda: sshmap("cp", "-r", source, f"{near}/"), lambda: arena.fresh("near"))
    tars = _tars(arena, near)
    took_in, took_out, limit_in, limit_out = alternate(TURNS, into, out, *tars, row=ROW)
    size = f"{arena.scaled(1000)} MB, {SSH_HOSTS} hosts"
    yield Row(f"cp -r in, {size} vs ssh tar each", took_in, limit_in, 1.3)
    yield Row(f"cp -r out, {size} vs ssh tar each", took_out, limit_out, 1.3)


def _tars(arena: Arena, near: Path) -> _Copies:
    """Copy the files of each host with a tar of its own; they are numbered, and so known to lie on host number % hosts."""
    hosts, far = arena.sshd(), arena.fresh("far")
    into, out = [], []
    for number in range(SSH_HOSTS):
        names = " ".join(path.name for path in sorted(arena.trips.iterdir())[number::SSH_HOSTS])
        folder = f"{far}/{number}"
        receive = shlex.join(login(hosts, f"mkdir -p {folder} && tar -C {folder} -x", number))
        into.append(f"tar -C {arena.trips} -c {names} | {receive}")
        send = shlex.join(login(hosts, f"tar -C {folder} -c .", number))
        out.append(f"{send} | (mkdir -p {near}/{number} && tar -C {near}/{number} -x)")
    at_once(into)
    return _Copies(Side(lambda: at_once(into)), Side(lambda: at_once(out), lambda: arena.fresh("near")))


def ssh_shuffle(arena: Arena) -> Iterator[Row]:
    """Fan the CSV files out by passenger count and merge them: from host to host through sshd, and between local hosts."""
    took, limit = alternate(
        TURNS, _shuffle(arena, arena.ssh_cluster()), _shuffle(arena, arena.cluster(SSH_HOSTS)), row=ROW
    )
    yield Row(f"fanout and merge, {arena.scaled(1000)} MB vs local hosts", took, limit, 1.5)


def _shuffle(arena: Arena, sshmap: Cluster) -> Side:
    source = arena.held("trips", sshmap)

    def run() -> None:
        sshmap("fanout", source, "sm://split/", f"{PARTITION}; ls")
        sshmap("merge", "sm://split/", "sm://merged/", "xargs cat")

    def clear() -> None:
        sshmap("rm", "-r", "sm://split/")
        sshmap("rm", "-r", "sm://merged/")

    return Side(run, clear)
