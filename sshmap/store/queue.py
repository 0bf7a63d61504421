"""Jobs, tasks and outbox of one host: the queue that workers and courier share.

Statements only; who claims and runs is the agent package's business. The states are
drawn in `sshmap.model`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator

import msgspec

from sshmap.model import JobId, JobSpec, Receipt, TaskState, Verb
from sshmap.store.keys import receipt_of
from sshmap.store.ledger import Ledger

#: attempts that end with the worker's death before a task is given up
MAX_LOST = 5
KEEP_JOBS = 200
_ACTIVE = "state IN ('queued', 'running', 'sending')"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task, as claimed by a worker."""

    id: int
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
    #: other receipts' keys lie beside a fan-out's outputs and have to go
    stale: bool = False


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """One file in the outbox."""

    id: int
    task: int
    name: str
    size: int
    digest: bytes
    receipt: Receipt
    replaces: bool


class Queue:
    """Statements on the queue of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db

    def open_job(self, job: JobId, spec: JobSpec, maker: bytes) -> int:
        """Enter a submission of a job and return its run number; within a transaction."""
        row = self._db.execute("SELECT run FROM jobs WHERE id = ?", (job,)).fetchone()
        run = row[0] + 1 if row else 1
        values = (job, spec.maker.verb.value, spec.indir, spec.outdir, maker, run, int(time.time()), 0)
        self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        self._prune()
        return run

    def outputs(self, job: JobId, since: int) -> set[str]:
        """Return the outputs of the tasks of a run and of later ones."""
        return {
            output
            for (output,) in self._db.execute("SELECT output FROM tasks WHERE job = ? AND run >= ?", (job, since))
        }

    def present_run(self, job: JobId) -> tuple[int, int] | None:
        """Return the number of a job's run and how many outputs were kept when it began."""
        row = self._db.execute("SELECT run, kept FROM jobs WHERE id = ?", (job,)).fetchone()
        return (row[0], row[1]) if row else None

    def note_kept(self, job: JobId, kept: int) -> None:
        """Remember how many outputs were kept when a run began; within a transaction."""
        self._db.execute("UPDATE jobs SET kept = ? WHERE id = ?", (kept, job))

    def _prune(self) -> None:
        """Forget the oldest jobs that have nothing left to do."""
        old = self._db.execute(
            f"SELECT id FROM jobs WHERE id NOT IN (SELECT job FROM tasks WHERE {_ACTIVE}) ORDER BY submitted DESC LIMIT -1 OFFSET ?",
            (KEEP_JOBS,),
        ).fetchall()
        self._db.executemany("DELETE FROM tasks WHERE job = ?", old)
        self._db.executemany("DELETE FROM jobs WHERE id = ?", old)

    def join(self, job: JobId) -> int:
        """Let a run of a job begin with the tasks that are in hand, if there are any, and return its number."""
        in_hand = f"job = ? AND {_ACTIVE}"
        with self._ledger.change() as db:
            present = self.present_run(job)
            run = present[0] + 1 if present else 1
            if db.execute(f"UPDATE tasks SET run = ? WHERE {in_hand}", (run, job)).rowcount:
                db.execute("UPDATE jobs SET run = ? WHERE id = ?", (run, job))
        return run

    def enqueue(self, job: JobId, run: int, tasks: Iterable[NewTask], *, replaces: bool, since: int) -> None:
        """Queue tasks; those that are in hand already join this run as they are; within a transaction.

        Args:
            job: their job.
            run: its present run.
            tasks: what to do.
            replaces: they swap outputs that other work made.
            since: those that ended in this run or a later one stay so, if they had these inputs.
        """
        ended = "state IN ('done', 'failed')"
        again = f"(({ended} AND run < ?8) OR ({ended} OR state = 'sending') AND inputs <> excluded.inputs)"
        self._db.executemany(
            "INSERT INTO tasks (job, output, members, inputs, run, replaces, stale) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
            "ON CONFLICT (job, output) DO UPDATE SET (run, members, inputs, replaces, stale) = "
            "  (excluded.run, excluded.members, excluded.inputs, excluded.replaces, excluded.stale), "
            "(state, attempt, size, kind, message, exit_code) = "
            f"  (SELECT 'queued', 0, 0, NULL, NULL, NULL WHERE {again} "
            f"   UNION ALL SELECT state, attempt, size, kind, message, exit_code WHERE NOT {again})",
            (
                (job, task.output, "\n".join(task.members), task.inputs, run, replaces, task.stale, since)
                for task in tasks
            ),
        )

    def backlog(self, limit: int) -> int:
        """Number of queued tasks, counted up to a limit."""
        query = "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE state = 'queued' LIMIT ?)"
        return int(self._db.execute(query, (limit,)).fetchone()[0])

    def claim(self, slot: int, count: int, *, fanouts: bool, job: str = "") -> list[Task]:
        """Take the oldest queued tasks for a worker slot.

        Args:
            slot: the worker's number.
            count: how many at most.
            fanouts: whether fan-out tasks may be taken; not while the outbox is full.
            job: only tasks of this job, if one is named.
        """
        verbs = "" if fanouts else "AND job NOT IN (SELECT id FROM jobs WHERE verb = 'fanout')"
        verbs += " AND job = :job" if job else ""
        with self._ledger.change() as db:
            rows = db.execute(
                f"UPDATE tasks SET state = 'running', slot = :slot, attempt = attempt + 1 WHERE id IN "
                f"(SELECT id FROM tasks WHERE state = 'queued' {verbs} ORDER BY id LIMIT :count) "
                "RETURNING id, job, output, members, inputs, replaces, attempt, "
                "(SELECT maker FROM jobs WHERE jobs.id = job), (SELECT verb FROM jobs WHERE jobs.id = job)",
                {"slot": slot, "count": count, "job": job},
            ).fetchall()
        return [
            Task(id=row[0], job=row[1], output=row[2], members=tuple(row[3].split("\n")), receipt=Receipt(row[7], row[4]),
                 replaces=bool(row[5]), attempt=row[6], verb=Verb(row[8]))
            for row in rows
        ]  # fmt: skip

    def requeue(self, slots: Iterable[int]) -> int:
        """Give back the tasks of workers that died; one that keeps killing its worker fails. Return how many."""
        with self._ledger.change() as db:
            count = 0
            for slot in slots:
                where = "state = 'running' AND slot = ?"
                db.execute(
                    f"UPDATE tasks SET state = 'failed', kind = 'CommandsFailed', message = ? WHERE {where} AND attempt >= ?",
                    (f"its worker died {MAX_LOST} times while it ran", slot, MAX_LOST),
                )
                count += db.execute(f"UPDATE tasks SET state = 'queued', slot = NULL WHERE {where}", (slot,)).rowcount
        return count

    def give_back(self, slot: int) -> None:
        """Give back the tasks of a worker that is told to stop; the attempt does not count."""
        with self._ledger.change() as db:
            where = "state = 'running' AND slot = ?"
            db.execute(f"UPDATE tasks SET state = 'queued', slot = NULL, attempt = attempt - 1 WHERE {where}", (slot,))

    def release(self, tasks: Iterable[int]) -> None:
        """Give back claimed tasks that were not begun; within a transaction."""
        self._db.executemany(
            "UPDATE tasks SET state = 'queued', attempt = attempt - 1 WHERE id = ? AND state = 'running'",
            [(task,) for task in tasks],
        )

    def running_slots(self) -> list[int]:
        """Slots that tasks are claimed for."""
        return [slot for (slot,) in self._db.execute("SELECT DISTINCT slot FROM tasks WHERE state = 'running'")]

    def owns(self, task: Task) -> bool:
        """Whether this attempt is still the one that counts; within a transaction."""
        row = self._db.execute("SELECT state, attempt FROM tasks WHERE id = ?", (task.id,)).fetchone()
        return bool(row == (TaskState.RUNNING.value, task.attempt))

    def finish(self, task: int, state: TaskState, size: int) -> None:
        """Record that a task's outputs are made; within the transaction that commits them."""
        self._db.execute("UPDATE tasks SET state = ?, size = ?, slot = NULL WHERE id = ?", (state.value, size, task))

    def fail(self, task: int, kind: str, message: str, exit_code: int) -> None:
        """Record that a task failed; within a transaction."""
        self._db.execute("DELETE FROM outbox WHERE task = ?", (task,))
        self._db.execute(
            "UPDATE tasks SET state = 'failed', slot = NULL, kind = ?, message = ?, exit_code = ? WHERE id = ?",
            (kind, message, exit_code, task),
        )

    def post(
        self, task: int, peer: str, name: str, size: int, digest: bytes, receipt: Receipt, *, replaces: bool
    ) -> int:
        """Put a file into the outbox and return its number; within a transaction."""
        cursor = self._db.execute(
            "INSERT INTO outbox (task, peer, name, size, digest, maker, inputs, replaces) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (task, peer, name, size, digest, receipt.maker, receipt.inputs, replaces),
        )
        return int(cursor.lastrowid or 0)

    def parcels(self, peer: str, after: int, limit: int) -> list[Parcel]:
        """Return what waits for a peer, oldest first."""
        rows = self._db.execute(
            "SELECT id, task, name, size, digest, maker, inputs, replaces FROM outbox WHERE peer = ? AND id > ? ORDER BY id LIMIT ?",
            (peer, after, limit),
        )
        return [
            Parcel(
                id=row[0],
                task=row[1],
                name=row[2],
                size=row[3],
                digest=row[4],
                receipt=Receipt(row[5], row[6]),
                replaces=bool(row[7]),
            )
            for row in rows
        ]

    def posted(self) -> set[int]:
        """Numbers of all files in the outbox."""
        return {number for (number,) in self._db.execute("SELECT id FROM outbox")}

    def peers_waiting(self) -> dict[str, int]:
        """Peers with files in the outbox, and how many."""
        return dict(self._db.execute("SELECT peer, count(*) FROM outbox GROUP BY peer"))

    def outbox_size(self) -> int:
        """Bytes in the outbox."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM outbox").fetchone()[0])

    def delivered(self, parcels: Iterable[Parcel]) -> None:
        """Take files out of the outbox that have arrived; their tasks are done with the last one; within a transaction."""
        parcels = list(parcels)
        self._db.executemany("DELETE FROM outbox WHERE id = ?", [(parcel.id,) for parcel in parcels])
        self._db.executemany(
            "UPDATE tasks SET state = 'done' WHERE id = ? AND state = 'sending' AND NOT EXISTS (SELECT 1 FROM outbox WHERE task = tasks.id)",
            [(task,) for task in {parcel.task for parcel in parcels}],
        )

    def rewind(self, task: int) -> None:
        """Run a task again whose files in the outbox were lost; within a transaction."""
        self._db.execute("DELETE FROM outbox WHERE task = ?", (task,))
        self._db.execute("UPDATE tasks SET state = 'queued' WHERE id = ? AND state = 'sending'", (task,))

    def set_stuck(self, peer: str, why: str) -> None:
        """Note that a peer cannot be reached, or with an empty reason that it can."""
        with self._ledger.change() as db:
            if why:
                db.execute("INSERT OR REPLACE INTO stuck VALUES (?, ?)", (peer, why))
            else:
                db.execute("DELETE FROM stuck WHERE peer = ?", (peer,))

    def stuck(self, job: str) -> dict[str, int]:
        """Peers that cannot be reached, and how many files of a job wait for each."""
        return dict(
            self._db.execute(
                "SELECT peer, count(*) FROM outbox JOIN tasks ON tasks.id = outbox.task JOIN stuck USING (peer) WHERE job = ? GROUP BY peer",
                (job,),
            )
        )

    def barred(self) -> list[str]:
        """Peers whose host key was refused; nobody carries files there until that is mended."""
        return [peer for (peer,) in self._db.execute("SELECT peer FROM stuck WHERE why LIKE '%host key%'")]

    def why_stuck(self, peer: str) -> str:
        """Why a peer cannot be reached."""
        row = self._db.execute("SELECT why FROM stuck WHERE peer = ?", (peer,)).fetchone()
        return str(row[0]) if row else ""

    def states(self, job: str, run: int) -> tuple[dict[str, int], int]:
        """Number of a run's tasks by state, and the bytes they made."""
        rows = self._db.execute(
            "SELECT state, count(*), sum(size) FROM tasks WHERE job = ? AND run >= ? GROUP BY state", (job, run)
        ).fetchall()
        return {state: count for state, count, _ in rows}, sum(size for _, _, size in rows)

    def active(self) -> dict[str, int]:
        """Number of unfinished tasks by state."""
        return dict(self._db.execute(f"SELECT state, count(*) FROM tasks WHERE {_ACTIVE} GROUP BY state"))

    def failed(self, job: str, run: int, limit: int) -> list[sqlite3.Row]:
        """Failed tasks of a run: members, output, attempt, kind, message, exit code."""
        return self._db.execute(
            "SELECT members, output, attempt, kind, message, exit_code FROM tasks WHERE job = ? AND run >= ? AND state = 'failed' ORDER BY id LIMIT ?",
            (job, run, limit),
        ).fetchall()

    def stale(self, job: str, run: int) -> Iterator[tuple[str, Receipt | None]]:
        """Fan-out directories of a run that hold keys of other work, and the receipt to keep."""
        query = (
            "SELECT output, maker, inputs FROM tasks JOIN jobs ON jobs.id = job "
            "WHERE job = ? AND tasks.run >= ? AND stale = 1 AND state = 'done'"
        )
        for output, maker, inputs in self._db.execute(query, (job, run)):
            yield output, receipt_of(maker, inputs)

    def jobs(self) -> list[sqlite3.Row]:
        """All jobs, newest first: id, verb, indir, outdir, maker, submitted, kept, run."""
        return self._db.execute(
            "SELECT id, verb, indir, outdir, maker, submitted, kept, run FROM jobs ORDER BY submitted DESC, id"
        ).fetchall()

    def maker_of(self, job: str) -> bytes | None:
        """Digest of a job's maker."""
        row = self._db.execute("SELECT maker FROM jobs WHERE id = ?", (job,)).fetchone()
        return row[0] if row else None

    def record_fanout(self, output: str, receipt: Receipt, count: int, names: bytes) -> None:
        """Remember what a fan-out task has put around the cluster; within a transaction."""
        self._db.execute(
            "INSERT OR REPLACE INTO fanouts VALUES (?, ?, ?, ?, ?)",
            (output, receipt.maker, receipt.inputs, count, names),
        )

    def fanout(self, output: str) -> tuple[Receipt, int, bytes] | None:
        """Return what a fan-out task has put around the cluster."""
        row = self._db.execute("SELECT maker, inputs, count, names FROM fanouts WHERE output = ?", (output,)).fetchone()
        return (Receipt(row[0], row[1]), row[2], row[3]) if row else None
