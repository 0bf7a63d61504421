"""How attempts end, and what becomes of their tasks: statements on the ledger's ``tasks`` and ``attempts``.

Each execution of a task is an attempt with a number that is never used again; the attempt's row is added in the transaction
that ends it. A task of a run that is ending does not go back to the queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec

from sshmap.model import AttemptEnd
from sshmap.store.ledger import Ledger
from sshmap.store.paces import Paces

#: attempts whose workers died after which a task fails
MAX_LOST = 5
_AT_WORK = "state IN ('running', 'sending')"
#: conditions for which SQLite uses the index of unfinished tasks; by the state alone it would read all tasks
QUEUED, RUNNING = "epoch = 0 AND state = 'queued'", "epoch = 0 AND state = 'running'"
SENDING = "epoch = 0 AND state = 'sending'"
#: puts a task back into the queue, or cancels it if its run is ending
_BACK = (
    "(state, epoch, size, queued, usage) = (SELECT iif(ending = '', 'queued', 'cancelled'), iif(ending = '', 0, epoch), "
    "0, :now, NULL FROM runs WHERE seq = run)"
)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt took."""

    #: seconds since 1970
    began: float
    #: seconds that its command took
    ran: float
    #: seconds of CPU time
    user: float = 0.0
    system: float = 0.0
    #: bytes of memory of its largest process
    peak: int = 0
    #: bytes that it was given, and that it made
    received: int = 0
    made: int = 0
    #: the beginning and the end of its stderr
    stderr: bytes = b""


_NO_USAGES: Mapping[int, Usage | None] = {}
_UNKNOWN = dict.fromkeys(Usage.__struct_fields__)


class TaskEnds:
    """Statements that end attempts.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db
        self._paces = Paces(ledger)

    def overtake(self, rows: list[tuple[int, str, str, bytes, bool, float, int]]) -> None:
        """End the attempts of tasks whose inputs have changed."""
        for run, output, _, inputs, *_ in rows:
            values = {"run": run, "output": output, "inputs": inputs}
            where = f"run = :run AND output = :output AND inputs <> :inputs AND {_AT_WORK}"
            self._note(where, values, AttemptEnd.OVERTAKEN)

    def requeue(self, slots: Iterable[int]) -> int:
        """Give back the tasks of workers that died; one that keeps killing its worker fails. Return how many."""
        count = 0
        lost = "(SELECT count(*) FROM attempts WHERE task = id AND outcome = 'lost')"
        with self._ledger.change() as db:
            for slot in slots:
                where = f"{RUNNING} AND slot = :slot"
                for (task,) in db.execute(
                    f"SELECT id FROM tasks WHERE {where} AND {lost} >= {MAX_LOST - 1}", {"slot": slot}
                ).fetchall():
                    self.fail(task, "CommandsFailed", f"its worker died {MAX_LOST} times while it ran", 0)
                self._note(where, {"slot": slot}, AttemptEnd.LOST)
                count += self._put_back(where, {"slot": slot})
        return count

    def give_back(self, slot: int) -> None:
        """Give back the tasks of a worker that is told to stop, which does not count against them."""
        with self._ledger.change():
            where = f"{RUNNING} AND slot = :slot"
            self._note(where, {"slot": slot}, AttemptEnd.RETURNED)
            self._put_back(where, {"slot": slot})

    def release(self, tasks: Iterable[int]) -> None:
        """Give back claimed tasks that were not begun; within a transaction."""
        for task in tasks:
            self._note("id = :id AND state = 'running'", {"id": task}, AttemptEnd.RETURNED)
            self._put_back("id = :id AND state = 'running'", {"id": task})

    def _put_back(self, where: str, values: Mapping[str, object]) -> int:
        """Put tasks back into the queue, or cancel them if their run is ending; return how many."""
        return self._db.execute(f"UPDATE tasks SET {_BACK} WHERE {where}", {**values, "now": time.time()}).rowcount

    def pace(self, run: int, seconds: Iterable[float]) -> None:
        """Note how long the commands of finished tasks of a run took; within a transaction."""
        self._paces.note(run, seconds)

    def finish(self, sizes: Mapping[int, int], usages: Mapping[int, Usage | None] = _NO_USAGES) -> None:
        """Record that the outputs of running tasks are made, and their bytes; within the transaction that commits them.

        Args:
            sizes: bytes by task.
            usages: what their attempts took, where that is known.
        """
        for task in sizes:
            self._note(f"id = :id AND {_AT_WORK}", {"id": task}, AttemptEnd.DONE, usage=usages.get(task))
        self._db.executemany(
            "UPDATE tasks SET state = 'done', size = ?, usage = NULL, epoch = (SELECT epoch FROM runs WHERE seq = run) "
            f"WHERE id = ? AND {_AT_WORK}",
            [(size, task) for task, size in sizes.items()],
        )

    def send(self, sizes: Mapping[int, int], usages: Mapping[int, Usage | None] = _NO_USAGES) -> None:
        """Record that running tasks only wait for their files in the outbox to arrive; within the same transaction."""
        self._db.executemany(
            "UPDATE tasks SET state = 'sending', size = ?, usage = ? WHERE id = ?",
            [(size, msgspec.msgpack.encode(usages.get(task)), task) for task, size in sizes.items()],
        )

    def finish_sent(self, tasks: Iterable[int]) -> None:
        """Record those of some tasks as done that have no file in the outbox any more; within a transaction."""
        query = (
            f"SELECT id, size, usage FROM tasks WHERE {one_of(tasks)} AND state = 'sending' "
            "AND NOT EXISTS (SELECT 1 FROM outbox WHERE task = tasks.id)"
        )
        rows = self._db.execute(query).fetchall()
        self.finish({task: size for task, size, _ in rows}, {task: _usage(usage) for task, _, usage in rows})

    def fail(self, task: int, kind: str, message: str, exit_code: int, usage: Usage | None = None) -> None:
        """Record that a task failed; within a transaction."""
        values = {"id": task}
        self._note(f"id = :id AND {_AT_WORK}", values, AttemptEnd.FAILED, (kind, message, exit_code), usage)
        self._db.execute(
            "UPDATE tasks SET state = 'failed', failures = failures + 1, usage = NULL, "
            f"epoch = (SELECT epoch FROM runs WHERE seq = run) WHERE id = :id AND {_AT_WORK}",
            values,
        )

    def try_again(
        self, task: int, kind: str, message: str, exit_code: int, usage: Usage | None, *, pause: float
    ) -> None:
        """Record that an attempt failed, and queue its task again, to be begun after so many seconds; within a transaction."""
        where, values = f"id = :id AND {_AT_WORK}", {"id": task, "due": time.time() + pause}
        self._note(where, values, AttemptEnd.FAILED, (kind, message, exit_code), usage)
        self._db.execute(f"UPDATE tasks SET due = :due, failures = failures + 1 WHERE {where}", values)
        self._put_back(where, values)

    def cancel(self, task: int, usage: Usage | None = None) -> None:
        """Record that an attempt was ended with its run; within a transaction."""
        where, values = f"id = :id AND {_AT_WORK}", {"id": task}
        self._note(where, values, AttemptEnd.CANCELLED, usage=usage)
        self._db.execute(
            f"UPDATE tasks SET state = 'cancelled', usage = NULL, epoch = (SELECT epoch FROM runs WHERE seq = run) WHERE {where}",
            values,
        )

    def cancel_sending(self, tasks: Iterable[int]) -> None:
        """Cancel those of some tasks whose files are on their way, and forget the files; within a transaction."""
        query = f"SELECT id, usage FROM tasks WHERE {one_of(tasks)} AND {SENDING}"
        for task, usage in self._db.execute(query).fetchall():
            self.cancel(task, _usage(usage))

    def rewind(self, task: int) -> None:
        """Queue a task again whose files in the outbox were lost; within a transaction."""
        where, values = "id = :id AND state = 'sending'", {"id": task}
        self._note(where, values, AttemptEnd.LOST)
        self._put_back(where, values)

    def _note(
        self,
        where: str,
        values: Mapping[str, object],
        outcome: AttemptEnd,
        why: tuple[str, str, int] | None = None,
        usage: Usage | None = None,
    ) -> None:
        """Add the rows of attempts that end; ``why`` is kind, message and exit code of one that failed."""
        kind, message, code = why or (None, None, None)
        took = msgspec.structs.asdict(usage) if usage else _UNKNOWN
        self._db.execute(
            "INSERT INTO attempts SELECT id, attempt, slot, ifnull(:began, began), :now, :outcome, :kind, :message, :code, "
            "queued, :ran, :user, :system, :peak, :received, :made, :stderr "
            f"FROM tasks WHERE {where}",
            {**values, **took, "stderr": (usage and usage.stderr) or None, "now": time.time(), "outcome": outcome.value,
             "kind": kind, "message": message, "code": code},
        )  # fmt: skip


def one_of(tasks: Iterable[int]) -> str:
    """Return the SQL condition that a row is one of some tasks."""
    return f"id IN ({','.join(map(str, tasks))})"


def _usage(packed: bytes | None) -> Usage | None:
    return msgspec.msgpack.decode(packed, type=Usage | None) if packed else None
