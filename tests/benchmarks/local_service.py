"""Works on the service itself: long listings, the start of a command, idle daemons."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sshmap.agent.daemon.worker import IDLE_LOOK
from sshmap.agent.host import lifecycle
from sshmap.inventory import Host, Inventory
from sshmap.store.commit import Store
from sshmap.store.digest import EMPTY
from sshmap.store.keys import Row as KeyRow
from sshmap.store.layout import Root
from tests.benchmarks.arena import Arena, Cluster
from tests.benchmarks.inputs import key_names
from tests.benchmarks.measure import Side, alternate, call, cpu_seconds, family, usage
from tests.benchmarks.report import Row

HOSTS = 4
_SETTLE = 3.0
#: worker processes of the host whose memory is looked at, and of the same with more of them
_FEW, _MORE = 2, 10


def ls_many(arena: Arena) -> Iterator[Row]:
    """List 200,000 keys of 4 hosts."""
    sshmap, count = arena.cluster(HOSTS), arena.scaled(200_000)
    _fill(sshmap.inventory, count)
    output = arena.top / "listing"
    runs = [usage(sshmap.argv("ls", "-r", "sm://many/"), output) for _ in range(3)]
    with output.open("rb") as file:
        listed = sum(1 for _ in file)
    if listed != count:
        raise RuntimeError(f"ls -r gave {listed} lines, not {count}")
    yield Row(f"ls -r, {count} keys, {HOSTS} hosts", min(run.seconds for run in runs), 2.0)
    yield Row("  its peak memory", max(run.mebibytes for run in runs), 256.0, unit="MiB")


def _fill(inventory: Inventory, count: int) -> None:
    """Put rows without files into the ledgers: listings read nothing else."""
    ring = inventory.ring
    names: dict[str, list[str]] = defaultdict(list)
    for name in key_names(count):
        names[ring.place(name)].append(name)
    now = int(time.time())
    for host in inventory.hosts:
        with contextlib.closing(Store(Root(host.root))) as store, store.ledger.change():
            for name in names[host.name]:
                store.keys.insert(KeyRow(name, 0, EMPTY, now, None))
            store.ledger.bump()


def ls_one(arena: Arena) -> Iterator[Row]:
    """Start one short command; importing typer is what no command line of its kind can avoid."""
    sshmap = arena.cluster()
    arena.held("tiny")
    ours = Side(lambda: sshmap("ls"))
    plain = Side(lambda: call([sys.executable, "-c", "import typer"]))
    took, limit = alternate(10, ours, plain)
    yield Row("ls of the buckets vs import typer", took, limit, 4)


def idle(arena: Arena) -> Iterator[Row]:
    """Leave the daemons of 4 hosts alone, at any scale for longer than they ever sleep.

    A shorter span fits between two of their looks around and would find nothing.
    """
    sshmap, span = arena.cluster(HOSTS), IDLE_LOOK + 1
    time.sleep(_SETTLE)
    pids = family(*(lifecycle.pid_of(Root(host.root)) for host in sshmap.inventory.hosts))
    before = cpu_seconds(pids)
    time.sleep(span)
    took = (cpu_seconds(pids) - before) / span * 100
    yield Row(f"idle daemons, {HOSTS} hosts, {len(pids)} processes, {span:g} s", took, 1.0, unit="%")


def idle_memory(arena: Arena) -> Iterator[Row]:
    """Leave a host with two workers alone, and one with more; what processes share counts once."""
    few, more = _resting(arena, _FEW), _resting(arena, _MORE)
    yield Row(f"idle host, {_FEW} workers, memory", few, 40.0, unit="MiB")
    yield Row("  each further worker", (more - few) / (_MORE - _FEW), 6.0, unit="MiB")


def _resting(arena: Arena, workers: int) -> float:
    """Bring a host up, leave it alone and return the memory (PSS, in MiB) of all its processes."""
    root, path = Root(arena.top / f"resting{workers}"), arena.top / f"resting{workers}.toml"
    fields = f'connect = "local"\nroot = "{root.path}"\nworkers = {workers}\n'
    path.write_text(f'[[hosts]]\nname = "h1"\n{fields}', encoding="utf-8")
    host = Host(name="h1", connect="local", root=str(root.path), workers=workers)
    sshmap = Cluster(("-i", str(path)), Inventory(hosts=(host,), origin=str(path)))
    sshmap("up")
    time.sleep(_SETTLE)
    total = sum(map(_proportional, family(lifecycle.pid_of(root))))
    sshmap("down", "--purge", "-y")
    return total / 1024


def _proportional(pid: int) -> int:
    """Return the KiB that a process takes, its share of what it has in common with others included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
