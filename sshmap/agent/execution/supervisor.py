"""The process between a worker and the commands it runs: nothing below it survives the worker.

The supervisor is a child sub-reaper (Linux's prctl(2)), so a process that forks twice or opens
a session of its own still ends up below it. It watches a pipe from the worker; when that
ends, however the worker ended, it kills everything below itself and exits.

Runs as a script with the standard library only, so that it starts in a few milliseconds.
Rejected: killing the process group, which a command leaves by setsid(2); control groups,
which need root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_SET_CHILD_SUBREAPER = 36
_SET_PDEATHSIG = 1
_LIMIT = 10.0


def become_subreaper() -> None:
    """Let orphans of this process's descendants become its children, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid: int) -> list[int]:
    """Return the child processes of a process, those that its other threads started too."""
    try:
        return [int(word) for thread in os.listdir(f"/proc/{pid}/task") for word in _children_of(pid, thread)]
    except OSError:
        return []


def _children_of(pid: int, thread: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            return file.read().split()
    except OSError:
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


def processes() -> list[int]:
    """Return all process ids, where the system shows them."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def environment(pid: int) -> list[bytes]:
    """Return the variables a process was started with; none if it is gone or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def works_in(pid: int, prefix: str) -> bool:
    """Say whether a process's working directory is the one of a task below a path."""
    try:
        place = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
    except OSError:
        return False
    return place.startswith(prefix) and place.endswith("/work")


def is_supervisor(pid: int) -> bool:
    """Say whether a process is a supervisor."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsencode(__file__) in file.read().split(b"\0")
    except OSError:
        return False


def kill_below(pid: int, spare: tuple[int, ...] = ()) -> int:
    """Kill all descendants of a process but the spared ones, until none is left; return how many were met.

    Gives up after 10 seconds; only a process stuck in the kernel lives that long.
    """
    deadline = time.monotonic() + _LIMIT
    met: set[int] = set()
    while time.monotonic() < deadline:
        victims = [child for child in below(pid) if child not in spare]
        if not victims:
            break
        for victim in victims:
            _kill(victim)
            if pid == os.getpid():
                _reap(victim)
        met.update(victims)
        time.sleep(0.001)
    return len(met)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    """Take note of an orphan's end, so that it does not stay as a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def main(argv: list[str]) -> None:
    """Keep ``argv[2:]`` alive and everything below it no longer than the pipe ``argv[1]`` is open."""
    watch = int(argv[1])
    become_subreaper()
    libc = ctypes.CDLL(None)
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.close(watch)
        # Python ignores these, and what it ignores its children would ignore
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.execvp(argv[2], argv[2:])
    threading.Thread(target=_watch, args=(watch,), daemon=True).start()
    status = 1
    while True:
        try:
            pid, code = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            status = os.waitstatus_to_exitcode(code)
            threading.Thread(target=kill_below, args=(os.getpid(),), daemon=True).start()
    os._exit(status if status >= 0 else 128 - status)


def _watch(fd: int) -> None:
    while os.read(fd, 1):
        pass
    kill_below(os.getpid())
    os._exit(137)


if __name__ == "__main__":
    main(sys.argv)
