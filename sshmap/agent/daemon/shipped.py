"""The files that were shipped with a job, put into each task's working directory.

The worker has one copy of each, checked against its digest. Where the file system can, a task gets a
clone of it (Linux's FICLONE), which shares the blocks until one of them is written. Elsewhere the copy
itself is linked into one task's directory at a time, and looked at afterwards: a task that changed it
fails, and the worker makes a fresh copy.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sshmap.agent.daemon.task_directory import TaskDirectory
from sshmap.errors import DigestMismatch
from sshmap.model import Shipped
from sshmap.store.digest import digest_fd
from sshmap.store.layout import Root
from sshmap.store.writing import PIECE, write_all

_FICLONE = 0x40049409


class _Lent(msgspec.Struct, frozen=True):
    """A copy that is linked into the present task's working directory, and its state at that time."""

    file: Shipped
    path: Path
    state: tuple[int, ...]


class ShippedFiles:
    """A worker's copies of the files shipped with the job that it works at.

    Args:
        root: the host's root.
        directory: where the copies lie.
    """

    def __init__(self, root: Root, directory: TaskDirectory) -> None:
        self._root, self._directory = root, directory
        self._copies: dict[Shipped, Path] = {}
        #: of copies that are put into no working directory: how they were when they were made
        self._states: dict[Path, tuple[int, ...]] = {}
        self._lent: list[_Lent] = []
        self._clones = sys.platform == "linux"

    def place(self, files: Iterable[Shipped], work: str) -> None:
        """Put files into an empty working directory.

        Raises:
            OSError: the disk refuses.
            DigestMismatch: a shipped file is damaged.
        """
        self._lent = []
        for file in files:
            copy = self._copy_of(file)
            if not self._clone(copy, Path(work, file.name)):
                os.link(copy, f"{work}/{file.name}")
                self._lent.append(_Lent(file, copy, _state(copy)))

    def own(self, file: Shipped) -> str:
        """Return the path of a copy that is put into no working directory.

        Raises:
            OSError: the disk refuses.
            DigestMismatch: the shipped file is damaged.
        """
        copy = self._copy_of(file)
        if self._states.setdefault(copy, _state(copy)) != _state(copy):
            copy.unlink(missing_ok=True)
            copy = self._copy_of(file)
        return str(copy)

    def changed(self) -> str:
        """Return the name of a shipped file that the task has changed, or an empty text; that copy is not used again."""
        touched = [lent for lent in self._lent if not _is_untouched(lent)]
        for lent in touched:
            self._copies.pop(lent.file, None)
        changed = [lent.file.name for lent in touched if _digest(lent.path) != lent.file.digest]
        for lent in touched:
            lent.path.unlink(missing_ok=True)
        return changed[0] if changed else ""

    def _copy_of(self, file: Shipped) -> Path:
        copy = self._copies.get(file)
        if copy is None or not copy.exists():
            copy = self._copies[file] = self._make(file)
        return copy

    def _make(self, file: Shipped) -> Path:
        """Copy a shipped file and check it."""
        copy = Path(self._directory.kept("shipped"))
        source = self._root.shipped / file.digest.hex()
        if not self._clone(source, copy):
            _copy(source, copy)
        copy.chmod(0o755 if file.executable else 0o644)
        if _digest(copy) != file.digest:
            copy.unlink()
            raise DigestMismatch(
                f"the shipped file {file.name!r} is damaged: {source}", hint=f"rm {source} on its host"
            )
        return copy

    def _clone(self, source: Path, target: Path) -> bool:
        """Make a clone, with the mode of its source; say whether the file system can."""
        if not self._clones:
            return False
        with source.open("rb") as original, target.open("xb") as clone:
            try:
                fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())
            except OSError:
                self._clones = False
            os.fchmod(clone.fileno(), os.fstat(original.fileno()).st_mode & 0o777)
        if not self._clones:
            target.unlink()
        return self._clones

    def forget(self) -> None:
        """Drop all copies: another job begins."""
        for copy in self._copies.values():
            copy.unlink(missing_ok=True)
        self._copies, self._states, self._lent = {}, {}, []


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as original, target.open("xb", buffering=0) as copy:
        while piece := original.read(PIECE):
            write_all(copy.fileno(), memoryview(piece))


def _state(path: Path) -> tuple[int, ...]:
    status = os.lstat(path)
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)


def _is_untouched(lent: _Lent) -> bool:
    try:
        return _state(lent.path) == lent.state
    except OSError:
        return False


def _digest(path: Path) -> bytes:
    """Return the digest of a file; empty if the file is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return digest_fd(fd)[1]
    finally:
        os.close(fd)
