"""Starting and stopping the daemon from a session, by its lock, its pid and its socket; imports none of its code."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from sshmap.agent.execution.processes import below, processes
from sshmap.agent.host import logind
from sshmap.agent.host.handoff import runtime_id
from sshmap.errors import HostNotReady
from sshmap.store import locks
from sshmap.store.layout import Root
from sshmap.transport.argv import agent_argv
from sshmap.transport.local import dial_socket

LOCK = "daemon"
#: seconds between TERM and KILL
PATIENCE = 8.0
#: seconds that a killed process may take to end, on a busy machine
KILL_LIMIT = 10.0
START_LIMIT = 20.0


def is_running(root: Root) -> bool:
    """Say whether the root has a daemon."""
    return locks.is_held(root, LOCK)


def pid_of(root: Root) -> int:
    """Return the daemon's process id, 0 if there is none."""
    return locks.holder_of(root, LOCK) or 0


def ensure_running(root: Root) -> None:
    """Start the daemon if there is none, in a session of its own, and wait until it holds its lock.

    The daemon takes the lock itself, so two starts are safe, and then closes its stdout, for which this waits. So a
    later call of `stop` finds the daemon.
    """
    if is_running(root):
        return
    stop(root)  # ends a daemon whose lock file was removed
    known, starting = os.pipe()
    with open(known, "rb", buffering=0) as ended:
        with open(starting, "wb", buffering=0) as stdout:
            subprocess.Popen(
                logind.outliving(agent_argv("daemon", str(root.path))), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL,
                start_new_session=True, cwd="/",
            )  # fmt: skip
        poll = select.poll()
        poll.register(ended)
        poll.poll(START_LIMIT * 1000)


def note_daemon(root: Root) -> None:
    """Write down which code the daemon runs, and in which directories it works."""
    (root.locks / "daemon.folders").write_text(f"{_folders(root)}\n", encoding="ascii")
    (root.locks / "daemon.runtime").write_text(f"{runtime_id()}\n", encoding="ascii")


def _folders(root: Root) -> str:
    """Return the inodes of the root's directories: they differ once a directory was removed and made again."""
    return " ".join(str(folder.stat().st_ino) for folder in root.folders)


def _is_current(root: Root) -> bool:
    """Say whether the daemon runs this code, and no directory that it works in was removed and made again."""
    return _read(root, "daemon.runtime") == runtime_id() and _read(root, "daemon.folders") == _folders(root)


def _read(root: Root, name: str) -> str:
    try:
        return (root.locks / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start(root: Root) -> None:
    """Start the daemon if there is none or it is not current (see `_is_current`), and wait until it answers.

    Must not be called from within the daemon.

    Raises:
        HostNotReady: it does not come up.
    """
    deadline = time.monotonic() + START_LIMIT
    if is_running(root) and not _is_current(root):
        stop(root)
    pause = 0.02
    while True:
        # each time, as a daemon that was running may have been about to end
        ensure_running(root)
        if _answers(root):
            return
        if time.monotonic() > deadline:
            raise HostNotReady(f"the daemon of {root.path} does not come up", hint=f"see {root.logs / 'daemon.log'}")
        time.sleep(pause)
        pause = min(0.5, pause * 1.1)


def _answers(root: Root) -> bool:
    channel = dial_socket(str(root.socket))
    if channel:
        channel.close()
    return channel is not None


def note_use(root: Root) -> None:
    """Note that a client uses the host now."""
    with contextlib.suppress(OSError):
        (root.locks / "used").touch()


def stop(root: Root) -> bool:
    """Stop the daemon: TERM to the manager, then KILL to all of it; say whether there was one.

    Must not be called from within the daemon.

    Raises:
        HostNotReady: it does not end.
    """
    pid = locks.holder_of(root, LOCK)
    if pid is None:
        pid = _forsaken(root)
    if pid is None:
        return False
    if not pid:
        raise HostNotReady(
            f"the daemon of {root.path} runs in another container", hint="sshmap down where it was started"
        )
    family = [pid, *below(pid)]
    _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while pid_of(root) == pid and time.monotonic() < deadline:
        time.sleep(0.02)
    family = sorted({*family, *below(pid)})
    _end(family, deadline)
    # a thread may hold the lock for a moment after the process looks ended
    while pid_of(root) == pid:
        if time.monotonic() > deadline + KILL_LIMIT:
            raise HostNotReady(f"the daemon of {root.path} (pid {pid}) does not end", hint=f"kill -9 {pid}")
        time.sleep(0.02)
    return True


def _forsaken(root: Root) -> int | None:
    """Return the manager of a daemon whose lock file was removed, found by having that file open; None if there is none."""
    gone = f"{os.path.realpath(root.path)}/{root.locks.name}/{LOCK} (deleted)"
    for pid in processes():
        with contextlib.suppress(OSError):
            if any(os.readlink(entry.path) == gone for entry in os.scandir(f"/proc/{pid}/fd")):
                return pid
    return None


def _end(pids: list[int], deadline: float) -> None:
    """Wait for processes to end; after the deadline, kill them."""
    while alive := [pid for pid in pids if _is_alive(pid)]:
        if time.monotonic() > deadline:
            for pid in alive:
                _signal(pid, signal.SIGKILL)
            if time.monotonic() > deadline + KILL_LIMIT:
                return
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
