"""Looks, while a task's command runs, whether it has to be ended: its run is ending, or the time that it may take is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from sshmap.errors import Cancelled, TimeLimit
from sshmap.limits import Limits, write_duration
from sshmap.model import Force
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.paces import FEWEST, Paces
from sshmap.store.tasks import Task

#: seconds for which a median, once there is one, is used again
_MEDIAN_LOOK = 5.0


class Watch:
    """Watches over the commands of one worker, one at a time.

    Args:
        store: the host's store.
    """

    def __init__(self, store: Store) -> None:
        self._ledger = store.ledger
        self._endings, self._paces = Endings(store.ledger), Paces(store.ledger)
        self._run, self._limits, self._meanwhile = 0, Limits(), _nothing
        self._began, self._version = 0.0, -1
        self._median, self._median_read = 0.0, 0.0
        #: whether the run of the present command is ending, and the seconds after which the command had to be ended
        self._force, self._too_long = Force.WAIT, 0.0

    def begin(self, task: Task, meanwhile: Callable[[], None]) -> None:
        """Begin to watch over a task's command.

        Args:
            task: the task.
            meanwhile: called once if the command takes long.
        """
        if task.run != self._run:
            self._median, self._median_read = 0.0, 0.0
        self._run, self._limits, self._meanwhile = task.run, task.limits, meanwhile
        self._began, self._version, self._force, self._too_long = time.monotonic(), -1, Force.WAIT, 0.0

    def look(self) -> Force:
        """Say whether the command has to be ended."""
        meanwhile, self._meanwhile = self._meanwhile, _nothing
        meanwhile()
        if (version := self._ledger.data_version()) != self._version:
            self._version, self._force = version, self._endings.force(self._run)
        limit = self._time_limit()
        if limit and not self._too_long and time.monotonic() - self._began > limit:
            self._too_long = limit
        return max(self._force, Force.TERM if self._too_long else Force.WAIT)

    def _time_limit(self) -> float:
        """Return the seconds that the command may take; 0 if that is not limited."""
        share = self._limits.timeout_percent / 100 * self._typical() if self._limits.timeout_percent else 0.0
        limits = [limit for limit in (self._limits.timeout, share) if limit]
        return min(limits, default=0.0)

    def _typical(self) -> float:
        """Return the median of the times of the run's finished tasks; 0 while too few have finished."""
        now = time.monotonic()
        if not self._median or now - self._median_read > _MEDIAN_LOOK:
            tasks, median = self._paces.median(self._run)
            self._median, self._median_read = (median if tasks >= FEWEST else 0.0), now
        return self._median

    def check(self, exit_code: int) -> None:
        """Check that a command that has ended was not ended by this watch.

        Raises:
            TimeLimit: it took too long.
            Cancelled: its run is ending.
        """
        if self._too_long:
            raise TimeLimit(f"took longer than {write_duration(round(self._too_long, 3))}, and was ended")
        if self._force and exit_code:
            raise Cancelled("its run was ended")


def _nothing() -> None:
    return
