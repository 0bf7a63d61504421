"""Works on many small keys: what one key costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.arena import CORES, Arena
from tests.benchmarks.measure import Side, alternate, call, seconds
from tests.benchmarks.report import Row

TIMES = 3


def xargs(source: Path, target: Path, command: str) -> None:
    """Run a shell command for each file, as many at a time as there are cores: ``$1`` is read, ``$2`` is written."""
    names = "\n".join(sorted(path.name for path in source.iterdir()))
    script = f'{command} < "{source}/$1" > "{target}/$1"'
    call(["xargs", f"-P{CORES}", "-I{}", "bash", "-c", script, "bash", "{}"], feed=names)


def _loop(arena: Arena) -> Side:
    """The limit of small keys: a shell for each."""
    return Side(lambda: xargs(arena.tiny, arena.fresh("loop"), "cat"), lambda: arena.fresh("loop"))


def map_tiny(arena: Arena) -> Iterator[Row]:
    """Map ``cat`` over the tiny keys."""
    sshmap, source = arena.cluster(), arena.held("tiny")
    ours = Side(lambda: sshmap("map", source, "sm://mapped/", "cat"), lambda: sshmap("rm", "-r", "sm://mapped/"))
    took, limit = alternate(TIMES, ours, _loop(arena))
    yield Row(f"map cat, {arena.scaled(5000)} keys vs xargs bash", took, limit, 0.5)


def cp_tiny(arena: Arena) -> Iterator[Row]:
    """Copy the tiny files in and out."""
    sshmap, source = arena.cluster(), arena.held("tiny")
    into = Side(lambda: sshmap("cp", "-r", str(arena.tiny), "sm://copied/"), lambda: sshmap("rm", "-r", "sm://copied/"))
    out = Side(lambda: sshmap("cp", "-r", source, f"{arena.top / arena.unused('out')}/"))
    took_in, took_out, limit = alternate(TIMES, into, out, _loop(arena))
    yield Row(f"cp -r in, {arena.scaled(5000)} files vs xargs bash", took_in, limit, 0.25)
    yield Row(f"cp -r out, {arena.scaled(5000)} files vs xargs bash", took_out, limit, 0.25)


def map_again(arena: Arena) -> Iterator[Row]:
    """Map over the tiny keys when all of it is done already."""
    sshmap, source = arena.cluster(), arena.held("tiny")
    firsts: list[float] = []
    others: list[float] = []
    for _ in range(TIMES):
        firsts.append(seconds(lambda: sshmap("map", source, "sm://again/", "cat")))
        others.append(seconds(lambda: sshmap("map", source, "sm://again/", "cat")))
        sshmap("rm", "-r", "sm://again/")
    yield Row(f"map again, {arena.scaled(5000)} kept keys vs the first", min(others), min(firsts), 0.15)
