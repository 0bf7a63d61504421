"""Writing the files that keys are copied to: each gets its name when it is complete, and none leads out of its directory.

A path below the destination is opened part by part without following links, so neither a
name that a host sends nor a link that lies there leads anywhere else. The destination itself
may be a link: the user has named it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from pathlib import Path
from typing import Protocol

from sshmap.store.writing import write_all

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Target(Protocol):
    """A file that is being written."""

    def write(self, piece: memoryview) -> None:
        """Append some content."""

    def finish(self) -> None:
        """Give the file its name; a file that had the name before is replaced."""

    def close(self) -> None:
        """Close it; unfinished, it vanishes."""


class Directory:
    """A directory that files are written below, by one thread.

    Args:
        top: the directory; made when the first file comes.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        #: the directories on the way to the last file, from the top, with their names
        self._way: list[tuple[str, int]] = []

    def create(self, relative: str) -> Target:
        """Begin a file.

        Args:
            relative: its path below the directory; checked as a key's name is.

        Raises:
            OSError: a directory on the way is a link or a file, or cannot be made or written to.
        """
        *folders, base = relative.split("/")
        return _Entry(self._enter(folders), base)

    def delete(self, relative: str) -> None:
        """Delete a file or link.

        Raises:
            OSError: a directory on the way is a link, or it cannot be deleted.
        """
        *folders, base = relative.split("/")
        os.unlink(base, dir_fd=self._enter(folders))

    def _enter(self, folders: list[str]) -> int:
        """Return a descriptor of a directory, making what is missing; names come sorted, so most of the way stays open."""
        if not self._way:
            self._top.mkdir(parents=True, exist_ok=True)
            self._way.append(("", os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
        pairs = zip((name for name, _ in self._way[1:]), folders, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        self._leave(1 + same)
        for folder in folders[same:]:
            above = self._way[-1][1]
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, dir_fd=above)
            self._way.append((folder, os.open(folder, _DIRECTORY, dir_fd=above)))
        return self._way[-1][1]

    def _leave(self, depth: int) -> None:
        while len(self._way) > depth:
            os.close(self._way.pop()[1])

    def close(self) -> None:
        """Close the directories."""
        self._leave(0)


class _Entry:
    """A file below a `Directory`. A file or link that has its name already is replaced; a directory is not."""

    def __init__(self, folder: int, base: str) -> None:
        self._folder, self._base = folder, base
        self._fresh = f".sshmap-{secrets.token_hex(6)}"
        self._fd = os.open(self._fresh, _FRESH, 0o666, dir_fd=folder)
        self._finished = False

    def write(self, piece: memoryview) -> None:
        """Append some content."""
        write_all(self._fd, piece)

    def finish(self) -> None:
        """Give the file its name."""
        os.rename(self._fresh, self._base, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._finished = True

    def close(self) -> None:
        """Close it; unfinished, it vanishes."""
        os.close(self._fd)
        if not self._finished:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._fresh, dir_fd=self._folder)


class NamedFile:
    """One file that the user has named.

    If it is a link, the link stays and its target is replaced. If it exists and is no plain file (a FIFO, a
    device), the content is written to it.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path)) if path.is_symlink() else path
        self._fresh = self._path.with_name(f".sshmap-{secrets.token_hex(6)}")
        self._finished = False
        self._through = self._path.exists() and not (self._path.is_file() or self._path.is_dir())
        if self._through:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            return
        try:
            self._fd = os.open(self._fresh, _FRESH, 0o666)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._fresh, _FRESH, 0o666)

    def write(self, piece: memoryview) -> None:
        """Append some content."""
        write_all(self._fd, piece)

    def finish(self) -> None:
        """Give the file its name."""
        if not self._through:
            self._fresh.rename(self._path)
        self._finished = True

    def close(self) -> None:
        """Close it; unfinished, it vanishes."""
        os.close(self._fd)
        if not (self._finished or self._through):
            self._fresh.unlink(missing_ok=True)
