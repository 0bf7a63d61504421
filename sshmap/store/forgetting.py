"""Forgetting old runs, in small steps, so that nobody waits long: statements on ``runs``, ``tasks`` and ``attempts``.

Receipts and lineage are not history: they stay as long as their keys. A run with something left to do is never forgotten.
"""

from __future__ import annotations

import contextlib
import time

import msgspec

from sshmap.store.commit import Store
from sshmap.store.jobs import UNFINISHED
from sshmap.store.layout import remove_tree
from sshmap.store.packages import shipped_paths

#: runs are kept until one of these is reached: so many newer ones, their age in seconds, and on a host attempts and bytes
KEEP_RUNS, KEEP_AGE, KEEP_ATTEMPTS, KEEP_SIZE = 200, 7 * 86400.0, 1_000_000, 512 << 20
#: runs that were opened and never started are kept beside them
_KEEP_UNSTARTED = 50
#: ends the names of shipped files and packages that are being deleted
_GONE = ".gone"
#: tasks forgotten in one transaction
_STEP = 2000


class Freed(msgspec.Struct, kw_only=True):
    """What was forgotten."""

    runs: int = 0
    attempts: int = 0
    #: shipped files that were deleted, and the bytes of these
    files: int = 0
    size: int = 0


class Forgetting:
    """Forgets what one host need not know any more.

    Args:
        store: the host's store.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._ledger, self._db = store, store.ledger, store.ledger.db
        self.freed = Freed()

    def step(self, age: float = KEEP_AGE) -> bool:
        """Forget some tasks of an old run, and the run with the last of them; say whether there was one.

        Args:
            age: seconds after its end for which a run is kept.
        """
        with self._ledger.change() as db:
            row = self._oldest(age)
            if row is None:
                return False
            seq, job = row
            if self._forget_tasks(seq):
                for table in ("tallies", "paces"):
                    db.execute(f"DELETE FROM {table} WHERE run = ?", (seq,))
                db.execute("DELETE FROM overs WHERE run = (SELECT id FROM runs WHERE seq = ?)", (seq,))
                db.execute("DELETE FROM runs WHERE seq = ?", (seq,))
                db.execute(
                    "DELETE FROM jobs WHERE id = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE job = jobs.id)", (job,)
                )
                self.freed.runs += 1
        return True

    def _oldest(self, age: float) -> tuple[int, str] | None:
        """Return the oldest run that is not kept."""
        started = (
            f"number > 0 AND seq NOT IN (SELECT seq FROM runs WHERE number > 0 ORDER BY seq DESC LIMIT {KEEP_RUNS})"
        )
        never = f"number = 0 AND seq NOT IN (SELECT seq FROM runs WHERE number = 0 ORDER BY seq DESC LIMIT {_KEEP_UNSTARTED})"
        full = "number > 0 AND seq < (SELECT max(seq) FROM runs WHERE number > 0) AND :full"
        values = {"before": time.time() - age, "full": self._is_full()}
        query = (
            f"SELECT seq, job FROM runs WHERE ({started} OR {never} OR ended < :before OR {full}) AND NOT {UNFINISHED} "
            "ORDER BY seq LIMIT 1"
        )
        row: tuple[int, str] | None = self._db.execute(query, values).fetchone()
        return row

    def _is_full(self) -> bool:
        """Say whether more attempts are kept than a host keeps, or more bytes of what they said."""
        attempts, size = (
            self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
            for name in ("attempts", "said")
        )
        return bool(attempts > KEEP_ATTEMPTS or size > KEEP_SIZE)

    def _forget_tasks(self, seq: int) -> bool:
        """Forget some tasks of a run; say whether these were the last."""
        tasks = self._db.execute("SELECT id FROM tasks WHERE run = ? LIMIT ?", (seq, _STEP)).fetchall()
        self.freed.attempts += self._db.executemany("DELETE FROM attempts WHERE task = ?", tasks).rowcount
        self._db.executemany("DELETE FROM tasks WHERE id = ?", tasks)
        return len(tasks) < _STEP

    def drop_shipped(self) -> None:
        """Delete the shipped files that no run needs.

        Within a write transaction, as a client opens its run before it ships the run's files; but packages are thousands of
        files. So all only get another name meanwhile, by which no job looks for them.
        """
        with self._ledger.change() as db:
            makers = [maker for (maker,) in db.execute("SELECT DISTINCT maker FROM jobs")]
            needed = {
                path
                for maker in filter(None, map(self._store.keys.maker, makers))
                for path in shipped_paths(self._store.root, maker)
            }
            with contextlib.suppress(FileNotFoundError):
                for path in self._store.root.shipped.iterdir():
                    if path not in needed and path.suffix != _GONE:
                        path.replace(path.with_suffix(f".{time.time_ns()}{_GONE}"))
        for path in self._store.root.shipped.glob(f"*{_GONE}"):
            with contextlib.suppress(FileNotFoundError):  # another process deletes it too
                self.freed.size += sum(file.lstat().st_size for file in (path, *path.rglob("*")))
                self.freed.files += 1
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)
