"""Ending runs before they are done: cancelled by somebody, or halted by too many failures; statements on ``runs`` and ``cancels``.

A run that is ending gets no new tasks, and none of its tasks is begun. Its queued ones are cancelled in small steps, its
running ones by their workers; if it was cancelled, those whose files are on their way too, as their peers may never be
reached. A host that knows of a cancel remembers which hosts have not been told.
"""

from __future__ import annotations

import time

from sshmap.limits import Limits
from sshmap.model import Ending, Force, Owed, RunId
from sshmap.store.jobs import UNFINISHED
from sshmap.store.ledger import Ledger
from sshmap.store.task_ends import QUEUED, RUNNING, SENDING, TaskEnds, one_of

#: tasks cancelled in one transaction
_STEP = 2000
#: seconds after which nobody is told of a cancel any more
_KEPT = 7 * 86400.0
#: seconds for which a run counts as followed after a client was seen to follow it
FOLLOWED = 10.0


class Endings:
    """Statements that end runs of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db
        self._ends = TaskEnds(ledger)

    def cancel(self, run: RunId, force: Force) -> None:
        """Cancel a run, and remember that, also of one that this host does not know (yet)."""
        with self._ledger.change() as db:
            db.execute(
                "INSERT INTO cancels VALUES (?, ?, ?, '') ON CONFLICT DO UPDATE SET force = max(force, excluded.force)",
                (run, force, time.time()),
            )
            db.execute("DELETE FROM cancels WHERE at < ?", (time.time() - _KEPT,))
            row = db.execute("SELECT seq FROM runs WHERE id = ? AND ended IS NULL", (run,)).fetchone()
            if row:
                self._end(row[0], Ending.CANCELLED, force)

    def halt(self, seq: int, force: Force) -> None:
        """Halt a run as too many of its tasks have failed."""
        with self._ledger.change():
            self._end(seq, Ending.HALTED, force)

    def halt_unfollowed(self, seq: int, limits: Limits) -> bool:
        """Halt a run of which too many tasks have failed here, unless a client that counts on all hosts follows it; say whether."""
        query = (
            "SELECT ifnull(sum(tasks), 0), ifnull(sum(iif(state = 'failed' AND tallies.epoch >= runs.epoch, tasks, 0)), 0), "
            "followed FROM runs JOIN tallies ON run = seq WHERE seq = ? AND (tallies.epoch = 0 OR tallies.epoch >= runs.epoch)"
        )
        if not (limits.halt_failed or limits.halt_percent):
            return False
        tasks, failed, followed = self._db.execute(query, (seq,)).fetchone()
        if time.time() - (followed or 0) < FOLLOWED or not limits.halts(failed, tasks):
            return False
        self.halt(seq, Force.TERM if limits.halt_now else Force.WAIT)
        return True

    def note_followed(self, seq: int) -> None:
        """Note that a client follows a run now."""
        with self._ledger.change() as db:
            db.execute("UPDATE runs SET followed = ? WHERE seq = ?", (time.time(), seq))

    def _end(self, seq: int, why: Ending, force: Force) -> None:
        self._db.execute(
            "UPDATE runs SET ending = iif(ending > '', ending, :why), force = max(force, :force), queued = ifnull(queued, :now) "
            "WHERE seq = :run AND ended IS NULL",
            {"why": why.value, "force": force, "now": time.time(), "run": seq},
        )
        # nobody may be left to queue the rest of its tasks, so one without unfinished ones is over
        self._db.execute(
            f"UPDATE runs SET ended = ? WHERE seq = ? AND ended IS NULL AND NOT {UNFINISHED}", (time.time(), seq)
        )

    def drop_queued(self) -> bool:
        """Cancel some queued tasks of runs that are ending; say whether there were any."""
        if rows := self._some("ending > ''", QUEUED):
            with self._ledger.change() as db:
                db.execute(
                    "UPDATE tasks SET state = 'cancelled', epoch = (SELECT epoch FROM runs WHERE seq = run) "
                    f"WHERE {one_of(rows)} AND {QUEUED}"
                )
        return bool(rows)

    def drop_sending(self) -> bool:
        """Cancel some tasks of cancelled runs whose files are on their way, and forget the files; say whether there were any."""
        if rows := self._some(f"ending = '{Ending.CANCELLED.value}'", SENDING):
            with self._ledger.change():
                self._ends.cancel_sending(rows)
        return bool(rows)

    def _some(self, which: str, state: str) -> list[int]:
        """Return some tasks, in a state, of the runs that are not over and for which a condition holds."""
        rows: list[int] = []
        for (seq,) in self._db.execute(
            f"SELECT seq FROM runs INDEXED BY runs_open WHERE ended IS NULL AND {which}"
        ).fetchall():
            query = f"SELECT id FROM tasks INDEXED BY tasks_active WHERE {state} AND run = ? LIMIT ?"
            rows += [task for (task,) in self._db.execute(query, (seq, _STEP - len(rows)))]
        return rows

    def force(self, seq: int) -> Force:
        """Say how the running commands of a run are to be ended."""
        row = self._db.execute("SELECT force FROM runs WHERE seq = ?", (seq,)).fetchone()
        return Force(row[0]) if row else Force.KILL

    def reason(self, seq: int) -> Ending | None:
        """Say why no task of a run begins any more, if that is so."""
        row = self._db.execute("SELECT ending FROM runs WHERE seq = ?", (seq,)).fetchone()
        return Ending(row[0]) if row and row[0] else None

    def left(self, run: RunId) -> int:
        """Return the number of the unfinished tasks of a run."""
        query = (
            "SELECT ifnull(sum(tasks), 0) FROM tallies WHERE run = (SELECT seq FROM runs WHERE id = ?) AND epoch = 0"
        )
        return int(self._db.execute(query, (run,)).fetchone()[0])

    def running_slots(self, run: RunId) -> list[int]:
        """Return the slots that tasks of a run are claimed for."""
        query = f"SELECT DISTINCT slot FROM tasks WHERE {RUNNING} AND run = (SELECT seq FROM runs WHERE id = ?)"
        return [slot for (slot,) in self._db.execute(query, (run,))]

    def owe(self, run: RunId, hosts: tuple[str, ...]) -> None:
        """Remember which hosts have not been told that a run is cancelled."""
        with self._ledger.change() as db:
            db.execute("UPDATE cancels SET hosts = ? WHERE run = ?", ("\n".join(hosts), run))

    def owed(self) -> tuple[Owed, ...]:
        """Return the cancels that hosts have not been told of."""
        rows = self._db.execute("SELECT run, force, hosts FROM cancels WHERE hosts > '' ORDER BY at").fetchall()
        return tuple(Owed(run, Force(force), tuple(hosts.split("\n"))) for run, force, hosts in rows)
