"""The tasks of one host: the queue that sessions fill and workers empty; statements on ``tasks`` and ``attempts``.

The states are drawn in `sshmap.model`. Runs take turns: a worker claims tasks of the run of which the fewest run, so that a
small job does not wait for a large one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

import msgspec

from sshmap.limits import Limits, slots
from sshmap.model import AttemptEnd, Receipt, Verb
from sshmap.store import memory
from sshmap.store.jobs import Run
from sshmap.store.keys import after_prefix
from sshmap.store.task_ends import QUEUED, RUNNING, TaskEnds, one_of

_BATCH = 500
_CORES = os.cpu_count() or 1
#: also where the asking job has no run yet
_OTHER_JOB = "job IS NOT (SELECT job FROM runs WHERE seq = ?)"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task, as claimed by a worker."""

    id: int
    #: number of its run in this ledger
    run: int
    job: str
    verb: Verb
    #: output key of a map or merge; output directory of a fan-out
    output: str
    members: tuple[str, ...]
    receipt: Receipt
    replaces: bool
    attempt: int
    #: how many of its attempts have failed
    failures: int = 0
    limits: Limits = Limits()


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task, as expanded from a job."""

    output: str
    members: tuple[str, ...]
    inputs: bytes
    #: keys of other receipts lie in a fan-out's output directory and have to be deleted
    stale: bool = False


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A task that failed."""

    members: tuple[str, ...]
    output: str
    attempt: int
    #: class name in `sshmap.errors`
    kind: str
    message: str
    exit_code: int


class _Work(msgspec.Struct, frozen=True):
    """What all tasks of a run share."""

    job: str
    verb: Verb
    maker: bytes
    replaces: bool
    limits: Limits


class Tasks(TaskEnds):
    """Statements on the tasks of one ledger.

    Args:
        ledger: an open ledger.
    """

    def enqueue(self, run: Run, tasks: Iterable[NewTask]) -> None:
        """Queue tasks that are not in the run yet or ended before the client opened it; within a transaction.

        Tasks that are unfinished or have ended since then stay as they are, unless their inputs have changed.
        """
        now = time.time()
        rows = [
            (run.seq, task.output, "\n".join(task.members), task.inputs, task.stale, now, run.epoch) for task in tasks
        ]
        if run.epoch > 1:
            self.overtake(rows)
        self._db.executemany(
            "INSERT INTO tasks (run, output, members, inputs, stale, queued) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (run, output) DO UPDATE SET (members, inputs, stale, queued, state, epoch, size, due, failures) = "
            "  (excluded.members, excluded.inputs, excluded.stale, excluded.queued, 'queued', 0, 0, 0, 0) "
            "WHERE inputs <> excluded.inputs OR epoch > 0 AND epoch < ?",
            rows,
        )

    def refuse(self, run: Run, task: NewTask, kind: str, message: str) -> None:
        """Record that a task failed before it could be queued, unless it is in the run already; within a transaction."""
        self.enqueue(run, [task])
        row = self._db.execute(
            "UPDATE tasks SET state = 'running', slot = NULL, attempt = attempt + 1, began = ? "
            f"WHERE run = ? AND output = ? AND {QUEUED} RETURNING id",
            (time.time(), run.seq, task.output),
        ).fetchone()
        if row:
            self.fail(row[0], kind, message, 0)

    def inputs_in_run(self, run: Run, outputs: list[str]) -> dict[str, bytes]:
        """Return the inputs, by output, of those tasks that are unfinished or have ended since the client opened the run."""
        found: dict[str, bytes] = {}
        for start in range(0, len(outputs), _BATCH):
            some = outputs[start : start + _BATCH]
            marks = ",".join("?" * len(some))
            found |= dict(
                self._db.execute(
                    f"SELECT output, inputs FROM tasks WHERE run = ? AND (epoch = 0 OR epoch >= ?) AND output IN ({marks})",
                    (run.seq, run.epoch, *some),
                )
            )
        return found

    def undone(self, run: Run, outdir: str, outputs: list[str]) -> set[str]:
        """Return those outputs whose newest task, of the other runs with this OUTDIR, has failed or is unfinished."""
        query = "SELECT seq FROM runs JOIN jobs ON jobs.id = job WHERE outdir = ? AND seq <> ? ORDER BY seq"
        states: dict[str, str] = {}
        for (seq,) in self._db.execute(query, (outdir, run.seq)).fetchall():
            for start in range(0, len(outputs), _BATCH):
                some = outputs[start : start + _BATCH]
                marks = ",".join("?" * len(some))
                states |= dict(
                    self._db.execute(
                        f"SELECT output, state FROM tasks WHERE run = ? AND output IN ({marks})", (seq, *some)
                    )
                )
        return {output for output, state in states.items() if state != "done"}

    def making_below(self, run: Run, outdir: str) -> bool:
        """Say whether another job has unfinished tasks with outputs below a directory."""
        query = (
            "SELECT 1 FROM tasks INDEXED BY tasks_making JOIN runs ON seq = run WHERE tasks.epoch = 0 AND output >= ? AND output < ? "
            f"AND {_OTHER_JOB} LIMIT 1"
        )
        return self._db.execute(query, (outdir, after_prefix(outdir), run.seq)).fetchone() is not None

    def being_made(self, run: Run, outputs: list[str]) -> dict[str, int]:
        """Return those outputs that another job has unfinished tasks for, with the run that makes them.

        A key is also made by a fan-out whose output directory it lies in, and a directory by a task whose key lies there.
        """
        start = "SELECT seq FROM tasks INDEXED BY tasks_making JOIN runs ON seq = run WHERE tasks.epoch = 0 AND"
        there = f"{start} output IN (?, ?) AND {_OTHER_JOB} LIMIT 1"
        below = f"{start} output > ? AND output < ? AND {_OTHER_JOB} LIMIT 1"
        found: dict[str, int] = {}
        for output in outputs:
            directory = output[: output.rfind("/") + 1]
            row = self._db.execute(there, (output, directory, run.seq)).fetchone()
            if row is None and output == directory:
                row = self._db.execute(below, (output, after_prefix(output), run.seq)).fetchone()
            if row:
                found[output] = row[0]
        return found

    def any_of(self, run: Run) -> bool:
        """Say whether a run has tasks."""
        return self._db.execute("SELECT 1 FROM tasks WHERE run = ? LIMIT 1", (run.seq,)).fetchone() is not None

    def backlog(self, limit: int) -> int:
        """Number of queued tasks, counted up to a limit."""
        query = f"SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_active WHERE {QUEUED} LIMIT ?)"
        return int(self._db.execute(query, (limit,)).fetchone()[0])

    def claim(self, slot: int, count: int, *, fanouts: bool, run: int = 0) -> list[Task]:
        """Take the oldest queued tasks of one run for a worker slot.

        Args:
            slot: the worker's number.
            count: how many at most.
            fanouts: whether fan-out tasks may be taken; not while the outbox is full.
            run: the run of which so many may be taken, of another one only one; 0 if it does not matter.
        """
        with self._ledger.change() as db:
            for number in self._turns(fanouts=fanouts):
                work = self._work(number)
                room = slots(work.limits.jobs, _CORES) - self._running(number)
                if work.limits.memory_free and work.limits.memory_free > memory.available():
                    continue
                query = (
                    "SELECT id, output, members, inputs, attempt + 1, failures FROM tasks INDEXED BY tasks_active "
                    f"WHERE {QUEUED} AND run = ? AND due <= ? ORDER BY id LIMIT ?"
                )
                most = min(room, count if run in (0, number) else 1)
                rows = db.execute(query, (number, time.time(), most)).fetchall() if most > 0 else []
                if rows:
                    self._take(slot, number, [row[0] for row in rows])
                    return [_task(work, number, row) for row in rows]
        return []

    def _turns(self, *, fanouts: bool) -> list[int]:
        """Return the runs with queued tasks, first the one of which the fewest run; among equal ones, that claimed longest ago."""
        which = "" if fanouts else "AND (SELECT verb FROM jobs WHERE id = job) <> 'fanout'"
        queued = "(SELECT tasks FROM tallies WHERE run = seq AND state = 'queued' AND epoch = 0)"
        running = "ifnull((SELECT tasks FROM tallies WHERE run = seq AND state = 'running' AND epoch = 0), 0)"
        query = (
            f"SELECT seq FROM runs INDEXED BY runs_open WHERE ended IS NULL AND ending = '' AND {queued} > 0 {which} "
            f"ORDER BY {running}, turn"
        )
        return [seq for (seq,) in self._db.execute(query)]

    def _running(self, run: int) -> int:
        query = "SELECT tasks FROM tallies WHERE run = ? AND state = 'running' AND epoch = 0"
        return int((self._db.execute(query, (run,)).fetchone() or (0,))[0])

    def _take(self, slot: int, run: int, tasks: list[int]) -> None:
        self._db.execute(
            f"UPDATE tasks SET state = 'running', slot = ?, attempt = attempt + 1, began = ? WHERE {one_of(tasks)}",
            (slot, time.time()),
        )
        # the newest turn is that of an open run, so they all are smaller
        newest = "(SELECT max(turn) FROM runs INDEXED BY runs_open WHERE ended IS NULL)"
        self._db.execute(f"UPDATE runs SET turn = {newest} + 1 WHERE seq = ?", (run,))

    def _work(self, run: int) -> _Work:
        """Return what all tasks of a run share."""
        query = "SELECT job, verb, maker, replaces, limits FROM runs JOIN jobs ON jobs.id = job WHERE seq = ?"
        job, verb, maker, replaces, limits = self._db.execute(query, (run,)).fetchone()
        return _Work(job, Verb(verb), maker, bool(replaces), msgspec.json.decode(limits, type=Limits))

    def next_due(self) -> float:
        """Return when the next failed task is to be tried again, in seconds since 1970; 0 if none is."""
        query = f"SELECT min(due) FROM tasks INDEXED BY tasks_due WHERE {QUEUED} AND due > 0"
        return float(self._db.execute(query).fetchone()[0] or 0.0)

    def running_slots(self) -> list[int]:
        """Slots that tasks are claimed for."""
        return [slot for (slot,) in self._db.execute(f"SELECT DISTINCT slot FROM tasks WHERE {RUNNING}")]

    def owned(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks whose attempts are still the present ones; within a transaction."""
        claimed = list(tasks)
        query = f"SELECT id, attempt FROM tasks WHERE state = 'running' AND {one_of(task.id for task in claimed)}"
        present = set(self._db.execute(query))
        return [task for task in claimed if (task.id, task.attempt) in present]

    def was_lost(self, task: Task) -> bool:
        """Say whether a worker died during an earlier attempt."""
        query = "SELECT 1 FROM attempts WHERE task = ? AND outcome = ? LIMIT 1"
        return self._db.execute(query, (task.id, AttemptEnd.LOST.value)).fetchone() is not None

    def failed(self, run: Run, limit: int) -> Iterator[Failed]:
        """Go through the first tasks that have failed since the client opened the run."""
        rows = self._db.execute(
            "SELECT members, output, attempt, kind, message, exit_code FROM tasks JOIN attempts ON task = id AND number = attempt "
            "WHERE run = ? AND epoch >= ? AND state = 'failed' ORDER BY id LIMIT ?",
            (run.seq, run.epoch, limit),
        )
        for members, output, attempt, kind, message, code in rows:
            yield Failed(
                members=tuple(members.split("\n")),
                output=output,
                attempt=attempt,
                kind=kind,
                message=message,
                exit_code=code,
            )

    def running(self, limit: int) -> list[tuple[int, str, str, str, str, int, float]]:
        """Return number and id of the run, verb, members, output, slot and beginning of running tasks, the oldest first."""
        query = (
            "SELECT number, runs.id, verb, members, output, slot, began FROM tasks INDEXED BY tasks_active "
            "JOIN runs ON seq = run JOIN jobs ON jobs.id = job WHERE tasks.epoch = 0 AND state = 'running' ORDER BY began LIMIT ?"
        )
        return self._db.execute(query, (limit,)).fetchall()

    def late(self, run: Run, since: float, limit: int) -> list[tuple[str, str, float]]:
        """Return members, output and beginning of some running tasks of a run that began before a time, the oldest first."""
        query = (
            f"SELECT members, output, began FROM tasks INDEXED BY tasks_active WHERE {RUNNING} AND run = ? AND began < ? "
            "ORDER BY began LIMIT ?"
        )
        return self._db.execute(query, (run.seq, since, limit)).fetchall()

    def stale(self, run: Run) -> Iterator[tuple[str, Receipt]]:
        """Go through finished fan-out directories that hold keys of other work, and the receipts to keep."""
        query = (
            "SELECT output, maker, inputs FROM tasks JOIN runs ON seq = run JOIN jobs ON jobs.id = job "
            "WHERE run = ? AND stale = 1 AND state = 'done' AND tasks.epoch >= ?"
        )
        for output, maker, inputs in self._db.execute(query, (run.seq, run.epoch)):
            yield output, Receipt(maker, inputs)


def _task(work: _Work, run: int, row: tuple[int, str, str, bytes, int, int]) -> Task:
    task, output, members, inputs, attempt, failures = row
    return Task(
        id=task, run=run, output=output, members=tuple(members.split("\n")), attempt=attempt, failures=failures, job=work.job,
        verb=work.verb, receipt=Receipt(work.maker, inputs), replaces=work.replaces, limits=work.limits,
    )  # fmt: skip
