"""The working directories of tasks that failed, kept so that a person can look at them; the newest, as far as there is room."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from sshmap.store.commit import Store
from sshmap.store.layout import remove_tree
from sshmap.store.tasks import Task

#: directories that are kept, and bytes of all together
MOST, MOST_SIZE = 20, 1 << 30
#: files that are looked at to find out how large a directory is
_MOST_FILES = 10_000
#: run, task, attempt and bytes; the run, as the number of a task may come back when runs are forgotten
_NAME = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)")


class KeptFailures:
    """The directories of one host, in ``failed/``, each named after run, task, attempt and its bytes.

    Args:
        store: the host's store.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._folder = store, store.root.failed

    def keep(self, work: str, task: Task, *, reserve: int) -> bool:
        """Move a working directory here, and drop older ones for which there is no room; say whether it is kept.

        Args:
            work: the directory.
            task: the task, as it was claimed for the attempt that failed.
            reserve: bytes of the disk that have to stay free.
        """
        disk, size = os.statvfs(self._store.root.path), size_of(work)
        if size > MOST_SIZE or disk.f_bavail * disk.f_frsize < reserve:
            return False
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            os.rename(work, self._folder / f"{task.run}.{task.id}.{task.attempt}.{size}")
            self._shrink()
            return True
        return False

    def _shrink(self) -> None:
        total = 0
        for place, path in enumerate(sorted(self._all(), key=_age)):
            total += _numbers(path)[3]
            if place >= MOST or total > MOST_SIZE:
                remove_tree(path)

    def _all(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return []

    def drop(self, age: float) -> tuple[int, int]:
        """Delete the directories that are older than so many seconds; return their number and bytes."""
        count = size = 0
        for path in self._all():
            if -_age(path) < time.time() - age:
                count, size = count + 1, size + _numbers(path)[3]
                remove_tree(path)
        return count, size

    def of(self, run: int, member: str) -> Path | None:
        """Return what is kept of the last failed attempt of a run on an input, if anything is."""
        query = "SELECT id FROM tasks WHERE run = ? AND members = ?"
        tasks = [[run, task] for (task,) in self._store.ledger.db.execute(query, (run, member))]
        found = [path for path in self._all() if _numbers(path)[:2] in tasks]
        return max(found, key=_numbers, default=None)


def _numbers(path: Path) -> list[int]:
    """Return run, task, attempt and bytes."""
    return [int(part) for part in path.name.split(".")]


def _age(path: Path) -> float:
    """Return a number that is smaller for directories that came later."""
    try:
        return -path.stat().st_ctime
    except OSError:
        return 0.0


def size_of(path: str) -> int:
    """Return the bytes of the files in a directory; of one with very many files, more than is kept."""
    total = count = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
        if (count := count + len(files)) > _MOST_FILES:
            return MOST_SIZE + 1
    return total
