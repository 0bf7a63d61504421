"""The tasks of one host: the queue that sessions fill and workers empty; statements on ``tasks`` and ``attempts``.

The states are drawn in `sshmap.model`. Each execution of a task is an attempt with a number that is never used again; the
attempt's row is added in the transaction that ends it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import msgspec

from sshmap.model import AttemptEnd, Receipt, Verb
from sshmap.store.jobs import Run
from sshmap.store.ledger import Ledger

#: attempts whose workers died after which a task fails
MAX_LOST = 5
_BATCH = 500
_AT_WORK = "state IN ('running', 'sending')"
#: conditions for which SQLite uses the index of unfinished tasks; by the state alone it would read all tasks
_QUEUED, _RUNNING = "epoch = 0 AND state = 'queued'", "epoch = 0 AND state = 'running'"


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


class Tasks:
    """Statements on the tasks of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db

    def enqueue(self, run: Run, tasks: Iterable[NewTask]) -> None:
        """Queue tasks that are not in the run yet or ended before the client opened it; within a transaction.

        Tasks that are unfinished or have ended since then stay as they are, unless their inputs have changed.
        """
        rows = [(run.seq, task.output, "\n".join(task.members), task.inputs, task.stale, run.epoch) for task in tasks]
        if run.epoch > 1:
            self._overtake(rows)
        self._db.executemany(
            "INSERT INTO tasks (run, output, members, inputs, stale) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (run, output) DO UPDATE SET (members, inputs, stale, state, epoch, size) = "
            "  (excluded.members, excluded.inputs, excluded.stale, 'queued', 0, 0) "
            "WHERE inputs <> excluded.inputs OR epoch > 0 AND epoch < ?",
            rows,
        )

    def _overtake(self, rows: list[tuple[int, str, str, bytes, bool, int]]) -> None:
        """End the attempts of tasks whose inputs have changed."""
        for run, output, _, inputs, *_ in rows:
            values = {"run": run, "output": output, "inputs": inputs}
            where = f"run = :run AND output = :output AND inputs <> :inputs AND {_AT_WORK}"
            self._note(where, values, AttemptEnd.OVERTAKEN)

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

    def any_of(self, run: Run) -> bool:
        """Say whether a run has tasks."""
        return self._db.execute("SELECT 1 FROM tasks WHERE run = ? LIMIT 1", (run.seq,)).fetchone() is not None

    def backlog(self, limit: int) -> int:
        """Number of queued tasks, counted up to a limit."""
        query = f"SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_active WHERE {_QUEUED} LIMIT ?)"
        return int(self._db.execute(query, (limit,)).fetchone()[0])

    def claim(self, slot: int, count: int, *, fanouts: bool, run: int = 0) -> list[Task]:
        """Take the oldest queued tasks for a worker slot.

        Args:
            slot: the worker's number.
            count: how many at most.
            fanouts: whether fan-out tasks may be taken; not while the outbox is full.
            run: only tasks of this run, if one is named.
        """
        which = (
            "" if fanouts else "AND run NOT IN (SELECT seq FROM runs JOIN jobs ON jobs.id = job WHERE verb = 'fanout')"
        )
        which += " AND run = :run" if run else ""
        with self._ledger.change() as db:
            query = (
                "SELECT id, run, output, members, inputs, attempt + 1 FROM tasks INDEXED BY tasks_active "
                f"WHERE {_QUEUED} {which} ORDER BY id LIMIT :count"
            )
            rows = db.execute(query, {"count": count, "run": run}).fetchall()
            if rows:
                change = f"UPDATE tasks SET state = 'running', slot = ?, attempt = attempt + 1, began = ? WHERE {_one_of(row[0] for row in rows)}"
                db.execute(change, (slot, time.time()))
            works = {number: self._work(number) for number in {row[1] for row in rows}}
        return [
            Task(
                id=task, run=number, output=output, members=tuple(members.split("\n")), attempt=attempt, job=works[number][0],
                verb=works[number][1], receipt=Receipt(works[number][2], inputs), replaces=works[number][3],
            )
            for task, number, output, members, inputs, attempt in rows
        ]  # fmt: skip

    def _work(self, run: int) -> tuple[str, Verb, bytes, bool]:
        """Return what all tasks of a run share: job, verb, maker, and whether they replace."""
        query = "SELECT job, verb, maker, replaces FROM runs JOIN jobs ON jobs.id = job WHERE seq = ?"
        job, verb, maker, replaces = self._db.execute(query, (run,)).fetchone()
        return job, Verb(verb), maker, bool(replaces)

    def requeue(self, slots: Iterable[int]) -> int:
        """Give back the tasks of workers that died; one that keeps killing its worker fails. Return how many."""
        count = 0
        lost = "(SELECT count(*) FROM attempts WHERE task = id AND outcome = 'lost')"
        with self._ledger.change() as db:
            for slot in slots:
                where = f"{_RUNNING} AND slot = :slot"
                for (task,) in db.execute(
                    f"SELECT id FROM tasks WHERE {where} AND {lost} >= {MAX_LOST - 1}", {"slot": slot}
                ).fetchall():
                    self.fail(task, "CommandsFailed", f"its worker died {MAX_LOST} times while it ran", 0)
                self._note(where, {"slot": slot}, AttemptEnd.LOST)
                count += db.execute(f"UPDATE tasks SET state = 'queued' WHERE {where}", {"slot": slot}).rowcount
        return count

    def give_back(self, slot: int) -> None:
        """Give back the tasks of a worker that is told to stop, which does not count against them."""
        with self._ledger.change() as db:
            where = f"{_RUNNING} AND slot = :slot"
            self._note(where, {"slot": slot}, AttemptEnd.RETURNED)
            db.execute(f"UPDATE tasks SET state = 'queued' WHERE {where}", {"slot": slot})

    def release(self, tasks: Iterable[int]) -> None:
        """Give back claimed tasks that were not begun; within a transaction."""
        for task in tasks:
            self._note("id = :id AND state = 'running'", {"id": task}, AttemptEnd.RETURNED)
            self._db.execute("UPDATE tasks SET state = 'queued' WHERE id = ? AND state = 'running'", (task,))

    def running_slots(self) -> list[int]:
        """Slots that tasks are claimed for."""
        return [slot for (slot,) in self._db.execute(f"SELECT DISTINCT slot FROM tasks WHERE {_RUNNING}")]

    def owned(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks whose attempts are still the present ones; within a transaction."""
        claimed = list(tasks)
        query = f"SELECT id, attempt FROM tasks WHERE state = 'running' AND {_one_of(task.id for task in claimed)}"
        present = set(self._db.execute(query))
        return [task for task in claimed if (task.id, task.attempt) in present]

    def was_lost(self, task: Task) -> bool:
        """Say whether a worker died during an earlier attempt."""
        query = "SELECT 1 FROM attempts WHERE task = ? AND outcome = ? LIMIT 1"
        return self._db.execute(query, (task.id, AttemptEnd.LOST.value)).fetchone() is not None

    def finish(self, sizes: dict[int, int]) -> None:
        """Record that the outputs of running tasks are made, and their bytes; within the transaction that commits them."""
        self._note(f"{_one_of(sizes)} AND {_AT_WORK}", {}, AttemptEnd.DONE)
        self._db.executemany(
            "UPDATE tasks SET state = 'done', size = ?, epoch = (SELECT epoch FROM runs WHERE seq = run) "
            f"WHERE id = ? AND {_AT_WORK}",
            [(size, task) for task, size in sizes.items()],
        )

    def send(self, sizes: dict[int, int]) -> None:
        """Record that running tasks only wait for their files in the outbox to arrive; within the same transaction."""
        change = "UPDATE tasks SET state = 'sending', size = ? WHERE id = ?"
        self._db.executemany(change, [(size, task) for task, size in sizes.items()])

    def finish_sent(self, tasks: Iterable[int]) -> None:
        """Record those of some tasks as done that have no file in the outbox any more; within a transaction."""
        query = f"SELECT id, size FROM tasks WHERE {_one_of(tasks)} AND state = 'sending' AND NOT EXISTS (SELECT 1 FROM outbox WHERE task = tasks.id)"
        self.finish(dict(self._db.execute(query)))

    def fail(self, task: int, kind: str, message: str, exit_code: int) -> None:
        """Record that a task failed; within a transaction."""
        self._note(f"id = :id AND {_AT_WORK}", {"id": task}, AttemptEnd.FAILED, kind, message, exit_code)
        self._db.execute(
            f"UPDATE tasks SET state = 'failed', epoch = (SELECT epoch FROM runs WHERE seq = run) WHERE id = ? AND {_AT_WORK}",
            (task,),
        )

    def rewind(self, task: int) -> None:
        """Queue a task again whose files in the outbox were lost; within a transaction."""
        self._note("id = :id AND state = 'sending'", {"id": task}, AttemptEnd.LOST)
        self._db.execute("UPDATE tasks SET state = 'queued', size = 0 WHERE id = ? AND state = 'sending'", (task,))

    def _note(self, where: str, values: dict[str, object], outcome: AttemptEnd, *why: object) -> None:
        """Add the rows of attempts that end; ``why`` is kind, message and exit code of one that failed."""
        kind, message, code = why or (None, None, None)
        self._db.execute(
            "INSERT INTO attempts SELECT id, attempt, slot, began, :now, :outcome, :kind, :message, :code "
            f"FROM tasks WHERE {where}",
            {**values, "now": time.time(), "outcome": outcome.value, "kind": kind, "message": message, "code": code},
        )

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

    def stale(self, run: Run) -> Iterator[tuple[str, Receipt]]:
        """Go through finished fan-out directories that hold keys of other work, and the receipts to keep."""
        query = (
            "SELECT output, maker, inputs FROM tasks JOIN runs ON seq = run JOIN jobs ON jobs.id = job "
            "WHERE run = ? AND stale = 1 AND state = 'done' AND tasks.epoch >= ?"
        )
        for output, maker, inputs in self._db.execute(query, (run.seq, run.epoch)):
            yield output, Receipt(maker, inputs)


def _one_of(tasks: Iterable[int]) -> str:
    """Return the SQL condition that a row is one of some tasks."""
    return f"id IN ({','.join(map(str, tasks))})"
