"""Finding and ending commands of a root that outlived both their worker and its supervisor; done when the daemon starts."""

from __future__ import annotations

import contextlib
import os
import signal

from sshmap.agent.execution import supervisor
from sshmap.agent.execution.processes import below, processes


def end_strays(root: str, tmp: str) -> None:
    """Kill the commands of a root that have no supervisor any more.

    They are known by the variable SSHMAP_ROOT, which only commands and supervisors carry, or by the
    working directory of a task.

    Args:
        root: path of the root.
        tmp: where its task directories lie.
    """
    mark = b"SSHMAP_ROOT=" + os.fsencode(root)
    marked = [pid for pid in processes() if mark in _environment(pid) or _works_in(pid, f"{tmp}/")]
    kept = {child for pid in marked if _is_supervisor(pid) for child in (pid, *below(pid))}
    for pid in marked:
        if pid not in kept:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _environment(pid: int) -> list[bytes]:
    """Return the variables a process was started with; none if it is gone or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _works_in(pid: int, prefix: str) -> bool:
    """Say whether a process works in the working directory of a task below a path."""
    try:
        place = os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)")
    except OSError:
        return False
    return place.startswith(prefix) and place.endswith("/work")


def _is_supervisor(pid: int) -> bool:
    """Say whether a process is a supervisor."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsencode(supervisor.__file__) in file.read().split(b"\0")
    except OSError:
        return False
