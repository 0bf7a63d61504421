"""Who is alive: fasteners file locks, one object per path and process, and the owners of scratch directories.

POSIX locks belong to the process, and closing any descriptor of the file drops them:
so every lock of a process is made here, once, kept until it ends, and its file is never
unlinked. The kernel frees a lock when its owner dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fasteners

from sshmap.errors import LockHeld
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root, host_error, remove_tree

_guard = threading.Lock()
_held: dict[Path, fasteners.InterProcessLock] = {}
_shared: dict[Path, fasteners.InterProcessReaderWriterLock] = {}
#: locks that sessions of this process hold, and who asked for them
_holds: dict[Path, tuple[fasteners.InterProcessLock, str]] = {}
#: characters of a name that is held, and of who holds it
_MOST_SAID = 1000


def _forget() -> None:
    """Forget, in a forked child, the locks, which only its parent holds; closing the files here drops none of them."""
    global _guard  # noqa: PLW0603  # a thread of the parent may have held it
    _guard = threading.Lock()
    for lock in (*_held.values(), *_shared.values(), *(lock for lock, _ in _holds.values())):
        lock.lockfile.close()
    _held.clear()
    _holds.clear()
    _shared.clear()


os.register_at_fork(after_in_child=_forget)


def try_lock(root: Root, name: str, seconds: float = 0.0) -> bool:
    """Take an exclusive lock for the rest of this process's life; say whether that worked.

    Args:
        root: the host's root.
        name: the lock.
        seconds: how long to wait for it.
    """
    path = root.locks / name
    with _guard:
        if path in _held:
            return True
        lock = fasteners.InterProcessLock(path)
        if lock.acquire(blocking=seconds > 0, timeout=seconds, delay=0.02, max_delay=0.02):
            _held[path] = lock
            return True
        return False


def hold_file(name: str) -> str:
    """Return the name of the lock that `hold` takes for a name."""
    return f"hold-{digest_of(name.encode()).hex()}"


def hold(root: Root, name: str, who: str) -> Path:
    """Take a lock on a name for a session, which `let_go` ends; return the lock's file.

    Args:
        root: the host's root.
        name: what is held; any text.
        who: who holds it, for people; nothing is written to the disk for nobody.

    Raises:
        LockHeld: another session holds it; the message says whose.
    """
    path = root.locks / hold_file(name)
    with _guard:
        if path in _holds:
            raise _in_use(name, _holds[path][1])
        lock = fasteners.InterProcessLock(path)
        if not lock.acquire(blocking=False):
            # nobody in this process holds it, whose lock would be dropped when the file is closed
            raise _in_use(name, path.read_text(encoding="utf-8", errors="replace"))
        said = who[:_MOST_SAID]
        if said:
            lock.lockfile.truncate(0)
            lock.lockfile.write(said)
            lock.lockfile.flush()
        _holds[path] = lock, said
    return path


def let_go(path: Path) -> None:
    """End what `hold` began."""
    with _guard:
        lock, _ = _holds.pop(path)
        lock.release()


@contextlib.contextmanager
def alone(path: Path, seconds: float) -> Iterator[bool]:
    """Keep other processes, but not threads of this one, from doing the same meanwhile; give whether that worked.

    Args:
        path: file of the lock, below no root; it is made if it is not there, and stays.
        seconds: how long to wait for others.

    Raises:
        OSError: the file cannot be made.
    """
    path.touch()  # which fails where the directory is missing, and fasteners would make that
    lock = fasteners.InterProcessLock(path)
    locked = lock.acquire(timeout=seconds, delay=0.02, max_delay=0.02)
    try:
        yield locked
    finally:
        if locked:
            lock.release()
        else:
            lock.lockfile.close()


def _in_use(name: str, who: str) -> LockHeld:
    return LockHeld(f"{name[:_MOST_SAID]} is in use by {who or 'somebody'}", hint="wait until that is done")


def is_held(root: Root, name: str) -> bool:
    """Say whether some process holds the lock, without taking it even for a moment."""
    return holder_of(root, name) is not None


def holder_of(root: Root, name: str) -> int | None:
    """Return the id of the process that holds the lock, 0 if that is one of another container; None if nobody does.

    Rejected: to try to take the lock, as fasteners offers, since a process that needs it could fail meanwhile; a
    file with the holder's id, which still names the former holder for a moment.
    """
    path = root.locks / name
    with _guard:
        if path in _held or path in _holds:
            return os.getpid()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _in_the_way(fd)
        finally:
            os.close(fd)


def _in_the_way(fd: int) -> int | None:
    """Ask the kernel which process holds a lock on a file; see fcntl(2), F_GETLK."""
    kind, whence, start, length, pid = fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0
    if sys.platform == "darwin":
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("qqihh", start, length, pid, kind, whence))
        _, _, pid, kind, _ = struct.unpack("qqihh", answer)
    else:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", kind, whence, start, length, pid))
        kind, _, _, _, pid = struct.unpack("hhqqi4x", answer)
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def share_maintenance(root: Root, limit: float = 10.0) -> None:
    """Hold the maintenance lock as one of its readers for the rest of this process's life.

    Raises:
        LockHeld: the root is being removed or rebuilt.
    """
    path = root.locks / "maintenance"
    with _guard:
        if path in _shared:
            return
        lock = fasteners.InterProcessReaderWriterLock(path)
        if not lock.acquire_read_lock(timeout=limit):
            raise LockHeld(
                f"{root.path} is under maintenance",
                hint="wait until the other sshmap is done, then run the command again",
            )
        _shared[path] = lock


def own_maintenance(root: Root, limit: float = 10.0) -> None:
    """Hold the maintenance lock alone for the rest of this process's life.

    Raises:
        LockHeld: another process works below the root.
    """
    path = root.locks / "maintenance"
    with _guard:
        if shared := _shared.pop(path, None):
            shared.release_read_lock()
        lock = fasteners.InterProcessReaderWriterLock(path)
        if not lock.acquire_write_lock(timeout=limit):
            raise LockHeld(
                f"other sessions are at work below {root.path}", hint="let them end, then run the command again"
            )
        _shared[path] = lock


def process_name() -> str:
    """Return a name that no other owner has, and by which others can tell whether this process lives."""
    return f"{os.getpid()}.{_started(os.getpid())}.{os.urandom(3).hex()}"


def is_gone(name: str) -> bool:
    """Say whether a name was made by `process_name` in a process that has ended."""
    pid, _, rest = name.partition(".")
    return pid.isdigit() and rest.split(".")[0] != _started(int(pid))


def scratch_dir(root: Root) -> Path:
    """Make a scratch directory: one in tmp/ whose name says that this process owns it.

    Raises:
        NoSpace: the disk is full, or out of inodes.
        HostNotReady: it cannot be made for another reason.
    """
    path = root.tmp / process_name()
    try:
        path.mkdir(mode=0o700)
    except OSError as exc:
        raise host_error(exc, path) from exc
    return path


def sweep_scratch(root: Root) -> int:
    """Remove the scratch directories of processes that are gone; return how many."""
    swept = 0
    for entry in os.scandir(root.tmp):
        if is_gone(entry.name):
            with contextlib.suppress(OSError):  # the next process tries again
                remove_tree(Path(entry.path))
                swept += 1
    return swept


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; with the pid it names a process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return _started_elsewhere(pid)


def _started_elsewhere(pid: int) -> str:
    """Where there is no /proc, a living pid is all that can be known."""
    if Path("/proc/self").exists():
        return "gone"
    try:
        os.kill(pid, 0)
    except OSError:
        return "gone"
    return "alive"
