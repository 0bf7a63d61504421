"""How long the finished tasks of a run took: a histogram with logarithmic steps, whose median costs the same for any number of tasks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from sshmap.store.ledger import Ledger

#: steps for each doubling of the time: each is 9 % wide
_STEPS = 8
#: finished tasks of a run before which its median says nothing
FEWEST = 3


def step_of(seconds: float) -> int:
    """Return the step that a time belongs to; those below a millisecond share the lowest ones."""
    return int(_STEPS * math.log2(1000 * max(0.0, seconds) + 1))


def seconds_of(step: int) -> float:
    """Return the time in the middle of a step."""
    return float((2 ** ((step + 0.5) / _STEPS) - 1) / 1000)


class Paces:
    """Statements on the times of one ledger's runs.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._db = ledger.db

    def note(self, run: int, seconds: Iterable[float]) -> None:
        """Note how long finished tasks of a run took; within a transaction."""
        self._db.executemany(
            "INSERT INTO paces VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET tasks = tasks + excluded.tasks",
            [(run, step, tasks) for step, tasks in Counter(map(step_of, seconds)).items()],
        )

    def mean(self, run: int) -> tuple[int, float]:
        """Return the number of the finished tasks of a run whose time is known, and the mean of their times in seconds."""
        rows = self._db.execute("SELECT step, tasks FROM paces WHERE run = ?", (run,)).fetchall()
        total = sum(tasks for _, tasks in rows)
        return total, sum(tasks * seconds_of(step) for step, tasks in rows) / total if total else 0.0

    def total(self, run: int) -> float:
        """Return the seconds that the finished tasks of a run took, all together."""
        tasks, mean = self.mean(run)
        return tasks * mean

    def median(self, run: int) -> tuple[int, float]:
        """Return the number of the finished tasks of a run whose time is known, and the median of their times in seconds."""
        rows = self._db.execute("SELECT step, tasks FROM paces WHERE run = ? ORDER BY step", (run,)).fetchall()
        total, seen = sum(tasks for _, tasks in rows), 0
        for step, tasks in rows:
            seen += tasks
            if 2 * seen >= total:
                return total, seconds_of(step)
        return 0, 0.0
