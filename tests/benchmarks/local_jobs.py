"""Works that are jobs over small keys: what a task costs, beside a shell for each of them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.arena import CORES, SSH_HOSTS, Arena, Cluster
from tests.benchmarks.local_small import TIMES
from tests.benchmarks.measure import Side, alternate, call
from tests.benchmarks.report import Row

_FANOUT = "cat > o_$filename; echo o_$filename"
_MERGE = "xargs cat"


def fanout_tiny(arena: Arena) -> Iterator[Row]:
    """Fan each tiny key out to one file, of which two thirds go to another host."""
    took, limit = alternate(TIMES, fanout(arena, arena.cluster(SSH_HOSTS)), fanout_loop(arena))
    yield Row(f"fanout, {arena.scaled(5000)} keys vs xargs bash", took, limit, 0.8)


def fanout(arena: Arena, sshmap: Cluster) -> Side:
    """Do it with a cluster."""
    source = arena.held("tiny", sshmap)
    return Side(lambda: sshmap("fanout", source, f"sm://{arena.unused('fanned')}/", _FANOUT))


def fanout_loop(arena: Arena) -> Side:
    """Do it with a shell for each, in a directory of its own."""
    script = f'mkdir "{{top}}/$1"; cd "{{top}}/$1"; filename=$1; {{{{ {_FANOUT}; }}}} < "{arena.tiny}/$1"'
    return Side(lambda: _shells(arena, script.format(top=arena.fresh(arena.unused("fanned")))))


def merge_tiny(arena: Arena) -> Iterator[Row]:
    """Merge groups of one key."""
    sshmap, source = arena.cluster(), arena.held("tiny")
    ours = Side(lambda: sshmap("merge", source, f"sm://{arena.unused('merged')}/", _MERGE))
    script = f'echo "{arena.tiny}/$1" | {_MERGE} > "{{top}}/$1"'
    plain = Side(lambda: _shells(arena, script.format(top=arena.fresh(arena.unused("merged")))))
    took, limit = alternate(TIMES, ours, plain)
    yield Row(f"merge, {arena.scaled(5000)} groups of one vs xargs bash", took, limit, 0.8)


def _shells(arena: Arena, script: str) -> None:
    names = "\n".join(sorted(path.name for path in arena.tiny.iterdir()))
    call(["xargs", f"-P{CORES}", "-I{}", "bash", "-c", script, "bash", "{}"], feed=names)


def map_many(arena: Arena) -> Iterator[Row]:
    """Map ``cat`` over twenty times as many keys: no key may cost more for that."""
    sshmap, few, many = arena.cluster(), arena.held("tiny"), arena.held("many")
    times = len(list(arena.many.iterdir())) / len(list(arena.tiny.iterdir()))

    def mapped(source: str) -> Side:
        return Side(lambda: sshmap("map", source, f"sm://{arena.unused('mapped')}/", "cat"))

    took, limit = alternate(1, mapped(many), mapped(few))
    yield Row(f"map cat, {arena.scaled(100_000)} keys vs {times:g} times fewer", took, times * limit, 1.1)
