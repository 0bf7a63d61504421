"""Works on large keys behind sshd: what a byte costs on its way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.benchmarks.arena import SSH_HOSTS, Arena, Cluster
from tests.benchmarks.local_large import PARTITION
from tests.benchmarks.login import pipe
from tests.benchmarks.measure import Side, alternate
from tests.benchmarks.report import Row

TIMES, TURNS, ROW = 5, 3, 2


class _Copies(NamedTuple):
    """One way to copy the big file, in both directions."""

    into: Side
    out: Side


def ssh_cp_big(arena: Arena) -> Iterator[Row]:
    """Copy one big file in and out, through either transport."""
    fabric, openssh, plain = _sshmap(arena, "fabric"), _sshmap(arena, "openssh"), _plain(arena)
    sides = [side for copies in (fabric, openssh, plain) for side in copies]
    took = alternate(TIMES, *sides)
    size = f"{arena.scaled(1024)} MiB"
    for name, (took_in, took_out), bounds in (("fabric", took[0:2], (2, 2.5)), ("openssh", took[2:4], (1.5, 1.5))):
        yield Row(f"cp in, {size}, {name} vs ssh cat", took_in, took[4], bounds[0])
        yield Row(f"cp out, {size}, {name} vs ssh cat", took_out, took[5], bounds[1])


def _sshmap(arena: Arena, transport: str) -> _Copies:
    """Copy with the command; the file that came in goes out before it is removed."""
    sshmap, out = arena.ssh_cluster(transport), arena.fresh("out")

    def clear() -> None:
        arena.fresh("out")
        sshmap("rm", "sm://one/big")

    return _Copies(
        Side(lambda: sshmap("cp", str(arena.big), "sm://one/big")),
        Side(lambda: sshmap("cp", "sm://one/big", f"{out}/"), clear),
    )


def _plain(arena: Arena) -> _Copies:
    """Copy with ``cat`` at the far end of the ssh program."""
    hosts, out, far = arena.sshd(), arena.fresh("out"), arena.fresh("far")
    return _Copies(
        Side(lambda: pipe(hosts, "", f"cat > {far}/big", f"< {arena.big}")),
        Side(
            lambda: pipe(hosts, "", f"cat {far}/big", f"> {out}/big"), lambda: (arena.fresh("out"), arena.fresh("far"))
        ),
    )


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
