"""The tree of processes below a process: listing it and killing it. Standard library only."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time

_SET_CHILD_SUBREAPER = 36
_LIMIT = 10.0
#: bytes of a list of children: of few, as mostly, and at most
_FEW, _MANY = 4096, 1 << 20
#: signals that Python ignores: its children would ignore them as well
RESET = (signal.SIGPIPE, signal.SIGXFSZ)


def become_subreaper() -> None:
    """Let orphans of this process's descendants become its children, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the child processes of a process, those that its other threads started too."""
    try:
        return [int(word) for thread in os.listdir(f"/proc/{pid}/task") for word in _children_of_thread(pid, thread)]
    except OSError:
        return []


def _children_of_thread(pid: int, thread: str) -> list[bytes]:
    """Return the child processes that a thread of a process has started, or adopted, as words."""
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            return file.read().split()
    except OSError:
        return []


class MainChildren:
    """The children that the main thread of a process has started, or adopted; looked at often, so the file stays open.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def pids(self) -> list[int]:
        """Return them, those that wait to be reaped included; none where the system does not show them, or the process is gone."""
        try:
            return [int(word) for word in self._read().split()] if self._fd >= 0 else []
        except OSError:
            return []

    def _read(self) -> bytes:
        content = os.pread(self._fd, _FEW, 0)
        return content if len(content) < _FEW else os.pread(self._fd, _MANY, 0)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)


def processes() -> list[int]:
    """Return all process ids, where the system shows them."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def below(pid: int) -> list[int]:
    """Return all descendants of a process, parents first."""
    found: list[int] = []
    todo = children(pid)
    while todo:
        current = todo.pop()
        found.append(current)
        todo += children(current)
    return found


def kill_below(pid: int, spare: tuple[int, ...] = ()) -> int:
    """Kill all descendants of a process but the spared ones, until none is left; return how many were killed.

    Gives up after 10 seconds; only a process stuck in the kernel lives that long.
    """
    deadline = time.monotonic() + _LIMIT
    met: set[int] = set()
    while time.monotonic() < deadline:
        victims = [child for child in below(pid) if child not in spare]
        if not victims:
            break
        for victim in victims:
            kill(victim)
            if pid == os.getpid():
                _reap(victim)
        met.update(victims)
        time.sleep(0.001)
    return len(met)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Kill a process, or send it another signal; one that is gone already, or has become another user's, is passed over."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def largest(pids: list[int]) -> int:
    """Return the most memory, in bytes, that one of some processes has had in use so far, where the system shows it."""
    return max(map(_peak, pids), default=0)


def _peak(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            found = re.search(rb"VmHWM:\s*(\d+) kB", file.read())
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def _reap(pid: int) -> None:
    """Wait for a killed process if it is a child of this one, so that it does not stay as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def exit_code(status: int) -> int:
    """Return the exit code as a shell counts it: 128 and the signal's number if a signal killed or stopped the process."""
    if os.WIFSTOPPED(status):
        return 128 + os.WSTOPSIG(status)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
