"""The start of a long job: when its first task runs, and how long others wait meanwhile."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import sshmap
from tests.benchmarks.arena import Arena
from tests.benchmarks.report import Row

_LIMIT = 120.0
#: hosts that no other work uses
_HOSTS = 4
_IDLE_TURNS = 20


def job_start(arena: Arena) -> Iterator[Row]:
    """Start a job over 300,000 keys, and list and copy one small key all the time until its first task runs."""
    # on hosts of their own, which are stopped afterwards: the job goes on without its client
    cluster = arena.cluster(_HOSTS)
    source, sign = arena.held("swarm", cluster), arena.top / arena.unused("started")
    with sshmap.Cluster(cluster.inventory) as other:
        others = _Others(arena, other)
        for _ in range(_IDLE_TURNS):
            others.turn()
        idle, others.longest = others.longest, 0.0
        began = time.time()
        with _started(
            cluster.argv("map", source, f"sm://{arena.unused('long')}/", f"[ -e {sign} ] || : > {sign}; cat")
        ):
            _until(sign.exists, others.turn)
        cluster("down")
        took = sign.stat().st_mtime - began
    yield Row(f"map, {arena.scaled(300_000)} keys, to the first task", took, 2.0)
    yield Row("  meanwhile others' ls or cp waits", max(0.0, others.longest - idle), 0.5)


class _Others:
    """Somebody who lists and copies while a job starts."""

    def __init__(self, arena: Arena, cluster: sshmap.Cluster) -> None:
        self._arena, self._cluster = arena, cluster
        #: seconds that the longest of the calls took
        self.longest = 0.0

    def turn(self) -> None:
        """List once and copy once."""
        for call in (self._list, self._copy):
            began = time.perf_counter()
            call()
            self.longest = max(self.longest, time.perf_counter() - began)

    def _list(self) -> None:
        list(self._cluster.ls("sm://"))

    def _copy(self) -> None:
        self._cluster.put(b"x", f"sm://others/{self._arena.unused('key')}")


@contextlib.contextmanager
def _started(argv: list[str]) -> Iterator[None]:
    """Have a job run; its client ends with the block."""
    job = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        job.send_signal(signal.SIGINT)
        job.wait(_LIMIT)


def _until(condition: Callable[[], bool], act: Callable[[], None]) -> None:
    """Do something again and again until a condition holds."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > _LIMIT:
            raise RuntimeError(f"no task has begun within {_LIMIT:g} s")
        act()
