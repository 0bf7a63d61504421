"""Where tasks do their work, and where the worker's own files lie: apart, so that a command does not meet them.

A command's working directory is ``tmp/<owner>/<random>/work``, empty when it begins. The worker's
own files (stdout, the input list of a merge, finished fan-out files, its copies of shipped files) lie
below another ``tmp/<owner>``. A command that removes what it reaches by ``..`` hits neither them nor
another task; whatever it removed is made again for the next task.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from sshmap.store import locks
from sshmap.store.layout import Root, remove_tree

_MODE = 0o700


class TaskDirectory:
    """The working directory of one worker's tasks, and the place of its own files. Makes nothing before it is needed.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._own: Path | None = None
        self._scratch: Path | None = None
        self._work = Path()
        self._inode = 0
        self._files: list[Path] = []
        self._count = 0

    def ready(self) -> Path:
        """Return an empty working directory, and see to it that the worker's own files have a place.

        Raises:
            OSError: the disk refuses.
        """
        if self._own is None or not self._own.is_dir():
            self._own = locks.scratch_dir(self._root)
        if not self._is_empty():
            self._renew()
        return self._work

    def own(self, name: str) -> Path:
        """Return a path for a file of the present task's."""
        assert self._own is not None, "ready comes first"
        self._count += 1
        path = self._own / f"{name}.{self._count}"
        self._files.append(path)
        return path

    def kept(self, name: str) -> Path:
        """Return a path for a file of the worker's that several tasks use."""
        assert self._own is not None, "ready comes first"
        self._count += 1
        return self._own / f"{name}.{self._count}"

    def taken(self) -> list[Path]:
        """Return the present task's files, for the caller to delete, and begin with the next task."""
        files, self._files = self._files, []
        return files

    def empty(self) -> None:
        """Delete what a command left in its working directory; what cannot go now goes before the next one begins."""
        if self._inode and not self._is_emptied():
            with contextlib.suppress(OSError):
                self._remove()

    def _is_empty(self) -> bool:
        """Say whether the working directory is as it was made, with nothing in it and nothing beside it."""
        try:
            status = os.lstat(self._work)
            same = (status.st_ino, status.st_mode & 0o7777) == (self._inode, _MODE)
            return same and not os.listdir(self._work) and os.listdir(self._work.parent) == ["work"]
        except OSError:
            return False

    def _renew(self) -> None:
        if not self._is_emptied():
            self._remove()
            self._scratch = locks.scratch_dir(self._root)
            self._work = self._scratch / os.urandom(4).hex() / "work"
            self._work.parent.mkdir(mode=_MODE)
            self._work.mkdir(mode=_MODE)
            self._inode = self._work.lstat().st_ino

    def _is_emptied(self) -> bool:
        """Empty a working directory that holds nothing but files, as that of a fan-out does; say whether it is fit again."""
        if self._inode:
            try:
                for entry in os.scandir(self._work):
                    os.unlink(entry.path)
            except OSError:
                return False
        return self._is_empty()

    def _remove(self) -> None:
        """Remove the working directory, whatever a command left there."""
        if self._scratch is not None:
            remove_tree(self._scratch)
            self._scratch = None

    def close(self) -> None:
        """Remove everything."""
        self._remove()
        if self._own is not None:
            remove_tree(self._own)
            self._own = None


def discard(paths: Iterable[Path]) -> None:
    """Delete files of the worker's own; a command may have put directories in their places."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):  # what cannot go now goes with the worker
                remove_tree(path)
