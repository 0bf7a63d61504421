"""The directories that tasks work in and those of the worker's own files: apart, so that commands do not find these.

A command's working directory is ``tmp/<owner>/<random>/work``, empty when it begins. The worker's
own files (stdout, the input list of a merge, finished fan-out files, its copies of shipped files) lie
below another ``tmp/<owner>``. A command that removes what it reaches by ``..`` hits neither them nor
another task; directories that it removed are made again for the next task.

Paths are text here, as `pathlib` takes a tenth of a worker's time for a task.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from sshmap.store import locks
from sshmap.store.layout import Root, remove_tree
from sshmap.store.writing import write_all

_MODE = 0o700
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: ns; longer than a tick of any kernel's clock
_TICK = 20_000_000


class TaskDirectory:
    """The working directory of one worker's tasks, and the directory of its own files; each is made when first needed.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._own = ""
        self._scratch = ""
        #: the working directory, and the one around it
        self._work = self._around = ""
        self._inode = 0
        #: times of change (ctime) of the working directory and the one around it, when they were found empty
        self._empty = (0, 0)
        self._files: list[str] = []
        self._count = 0

    def ready(self) -> str:
        """Return an empty working directory, and make the directory of the worker's own files if it is missing.

        Raises:
            OSError: the disk refuses.
        """
        if not self._is_empty():
            self._renew()
        if not os.path.isdir(self._own):
            self._own = str(locks.scratch_dir(self._root))
        return self._work

    def own(self, name: str) -> str:
        """Return a new path among the worker's own files, for a file of the present task."""
        path = self.kept(name)
        self._files.append(path)
        return path

    def fresh(self, name: str) -> str:
        """Make an empty file of the present task, and return its path."""
        path = self.own(name)
        os.close(os.open(path, _FRESH, 0o600))
        return path

    def reused(self, name: str, content: bytes = b"") -> str:
        """Write content to a file that each task uses in turn, and return its path; made anew if a command replaced it.

        Making and deleting a file for each task would take longer than everything else that is done for it.
        """
        path = f"{self._own}/{name}"
        fd = self._opened(path)
        try:
            os.ftruncate(fd, 0)
            write_all(fd, memoryview(content))
        finally:
            os.close(fd)
        return path

    @staticmethod
    def _opened(path: str) -> int:
        with contextlib.suppress(OSError):
            fd = os.open(path, _AGAIN)
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_mode & 0o777 == 0o600:
                return fd
            os.close(fd)
        discard([path])
        return os.open(path, _FRESH, 0o600)

    def kept(self, name: str) -> str:
        """Return a new path among the worker's own files, for a file that several tasks use."""
        assert self._own, "ready comes first"
        self._count += 1
        return f"{self._own}/{name}.{self._count}"

    def taken(self) -> list[str]:
        """Return the paths of the present task's files, for the caller to delete, and forget them: the next task begins."""
        files, self._files = self._files, []
        return files

    def empty(self) -> None:
        """Delete what a command left in its working directory; `ready` tries again if that fails."""
        if self._inode and not self._is_emptied():
            with contextlib.suppress(OSError):
                self._remove()

    def give_away(self, take: Callable[[str], object]) -> None:
        """Have a function move the working directory away; `ready` makes another one."""
        if self._inode:
            take(self._work)

    def _is_empty(self) -> bool:
        """Say whether the working directory is as it was made, with nothing in it and nothing beside it.

        The two directories are not listed again while their times of change stay the same.
        """
        try:
            status, around = os.lstat(self._work), os.lstat(self._around)
            changed = (status.st_ctime_ns, around.st_ctime_ns)
            if (status.st_ino, status.st_mode & 0o7777) != (self._inode, _MODE):
                return False
            if changed != self._empty:
                if os.listdir(self._work) or os.listdir(self._around) != ["work"]:
                    return False
                self._empty = changed if _is_telling(changed) else (0, 0)
        except OSError:
            return False
        return True

    def _renew(self) -> None:
        if not self._is_emptied():
            self._remove()
            self._scratch = str(locks.scratch_dir(self._root))
            self._around = f"{self._scratch}/{os.urandom(4).hex()}"
            self._work = f"{self._around}/work"
            for folder in (self._around, self._work):
                os.mkdir(folder, _MODE)
            self._inode = os.lstat(self._work).st_ino

    def _is_emptied(self) -> bool:
        """Delete the files in a working directory, as fan-outs leave them; say whether it is empty and as it was made now."""
        if self._inode:
            try:
                self._delete_files()
            except OSError:
                return False
        return self._is_empty()

    def _delete_files(self) -> None:
        """Delete the files in the working directory, and in no other that a command has put a link to in its place."""
        fd = os.open(self._work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_ino == self._inode:
                for name in os.listdir(fd):
                    os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)

    def _remove(self) -> None:
        """Remove the working directory, whatever a command left there."""
        if self._scratch:
            remove_tree(Path(self._scratch))
            self._scratch = ""

    def close(self) -> None:
        """Remove everything."""
        self._remove()
        if self._own:
            remove_tree(Path(self._own))
            self._own = ""


def _is_telling(changed: tuple[int, ...]) -> bool:
    """Say whether a later change would give a directory another time of change than these, in ns.

    What is changed within the same tick of the kernel's clock gets the same time; some file systems know whole seconds only.
    """
    return time.time_ns() - max(changed) > _TICK and all(moment % 1_000_000_000 for moment in changed)


def discard(paths: Iterable[str]) -> None:
    """Delete some of the worker's own files, also where a command has put a directory in the place of one."""
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError:
            with contextlib.suppress(OSError):  # deleted with the worker's scratch directory
                remove_tree(Path(path))
