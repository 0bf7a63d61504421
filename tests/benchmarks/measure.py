"""Measuring: alternating repetitions, a child's peak memory, the CPU time of running processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

Action = Callable[[], object]


class Side(NamedTuple):
    """One of the things compared."""

    run: Action
    #: makes the next run start from nothing; not measured
    clear: Action = lambda: None


class Usage(NamedTuple):
    """What a process took."""

    seconds: float
    #: peak resident memory
    mebibytes: float


def call(argv: Sequence[str], feed: str = "") -> None:
    """Run a command to its end; its stdout is dropped.

    Raises:
        RuntimeError: it failed; the message holds its stderr.
    """
    done = subprocess.run(argv, input=feed.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {' '.join(argv)}\n{done.stderr.decode(errors='replace')}")


def seconds(action: Action) -> float:
    """Time an action; what was written before has reached the disk by then."""
    os.sync()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def alternate(times: int, *sides: Side, row: int = 1) -> list[float]:
    """Run the sides by turns and return the best time of each, so that a slow minute hits all of them.

    Args:
        times: turns of each side.
        sides: what is compared.
        row: runs of a side in each turn: of work on large content, the first finds the memory as the other side
            left it, which on a virtual machine costs up to twice the time of memory that was in use just before.
    """
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(times):
        for side, results in zip(sides, taken, strict=True):
            for _ in range(row):
                results.append(seconds(side.run))
                side.clear()
    return [min(results) for results in taken]


def usage(argv: Sequence[str], output: Path) -> Usage:
    """Run a command with its stdout in a file and measure it.

    The kernel counts the starting process's own memory too, so that has to be small.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    with output.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
    taken = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {' '.join(argv)}")
    return Usage(taken, used.ru_maxrss / 1024)


def family(*pids: int) -> list[int]:
    """Return processes and all their descendants."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
                parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found = list(pids)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sum up the CPU time that processes have taken, in all their threads.

    From schedstat, which counts nanoseconds. Rejected: utime and stime, which drop what is
    below 10 ms in each process: an idle daemon would take nothing at all.
    """
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9
