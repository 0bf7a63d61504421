"""Works on many small tasks of each verb, and what an idle host holds in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sshmap.agent.daemon.worker import IDLE_LOOK
from sshmap.agent.host import lifecycle
from sshmap.inventory import Inventory
from sshmap.store.layout import Root
from tests.benchmarks.arena import CORES, Arena
from tests.benchmarks.inputs import make_tiny
from tests.benchmarks.local_small import TIMES
from tests.benchmarks.measure import Side, alternate, call, family, seconds
from tests.benchmarks.report import Row

#: as many times the keys of the other works
_MANY = 20
_FANOUT = "cat > o_$filename; echo o_$filename"
#: an idle worker has no supervisor any more
_SETTLE = IDLE_LOOK + 2


def _xargs(source: Path, target: Path, script: str) -> None:
    """Run a shell command for each file in a fresh directory of its own, below the target."""
    names = "\n".join(sorted(path.name for path in source.iterdir()))
    start = f'filename=$1; mkdir "{target}/$1"; cd "{target}/$1"; '
    call(["xargs", f"-P{CORES}", "-I{}", "bash", "-c", start + script, "bash", "{}"], feed=names)


def fanout_tiny(arena: Arena) -> Iterator[Row]:
    """Fan each tiny key out into one file."""
    sshmap, source = arena.cluster(), arena.held("tiny")
    ours = Side(lambda: sshmap("fanout", source, "sm://fanned/", _FANOUT), lambda: sshmap("rm", "-r", "sm://fanned/"))
    script = f'{{ {_FANOUT}; }} < "{arena.tiny}/$1" > names'
    plain = Side(lambda: _xargs(arena.tiny, arena.fresh("loop"), script), lambda: arena.fresh("loop"))
    took, limit = alternate(TIMES, ours, plain)
    yield Row(f"fanout, {arena.scaled(5000)} keys vs xargs bash", took, limit, 0.8)


def merge_tiny(arena: Arena) -> Iterator[Row]:
    """Merge groups of one."""
    sshmap, source = arena.cluster(), arena.held("tiny")
    ours = Side(lambda: sshmap("merge", source, "sm://merged/", "xargs cat"), lambda: sshmap("rm", "-r", "sm://merged"))
    script = f'echo "{arena.tiny}/$1" | xargs cat > merged'
    plain = Side(lambda: _xargs(arena.tiny, arena.fresh("loop"), script), lambda: arena.fresh("loop"))
    took, limit = alternate(TIMES, ours, plain)
    yield Row(f"merge, {arena.scaled(5000)} groups vs xargs bash", took, limit, 0.8)


def map_many(arena: Arena) -> Iterator[Row]:
    """Map ``cat`` over many keys: a key may cost no more than where there are few."""
    sshmap, few = arena.cluster(), arena.held("tiny")
    many = sshmap.holding(make_tiny(arena.top / "many", _MANY * arena.scaled(5000)))
    took: list[float] = []
    for source, times in ((few, TIMES), (many, 1)):
        runs = []
        for _ in range(times):
            runs.append(seconds(lambda source=source: sshmap("map", source, "sm://mapped/", "cat")))  # type: ignore[misc]
            sshmap("rm", "-r", "sm://mapped/")
        took.append(min(runs))
    yield Row(f"map cat, {_MANY * arena.scaled(5000)} keys vs {_MANY} times the few", took[1], _MANY * took[0], 1.1)


def idle_memory(arena: Arena) -> Iterator[Row]:
    """Look at what the processes of an idle host hold, shared memory counted once."""
    sshmap = arena.cluster()
    workers = sshmap.inventory.hosts[0].workers
    time.sleep(_SETTLE)
    yield Row(f"memory of an idle host, {workers} workers", _held(sshmap.inventory), 40 + 6 * (workers - 2), unit="MiB")


def _held(inventory: Inventory) -> float:
    pids = family(lifecycle.pid_of(Root(inventory.hosts[0].root)))
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids]
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in texts) / 1024
