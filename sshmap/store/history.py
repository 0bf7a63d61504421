"""What is kept of the attempts of a run: statements that read the ledger's ``tasks`` and ``attempts``."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sshmap.model import AttemptEnd, TaskState
from sshmap.store.ledger import Ledger

_FIELDS = (
    "tasks.id, members, output, state, attempt, tasks.slot, tasks.queued, tasks.began, number, attempts.slot, attempts.queued, "
    "attempts.began, ended, outcome, ran, user, system, peak, received, made, kind, message, exit_code"
)

_UNFINISHED = ("queued", "running", "sending")


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a task, or a task that has none to show; times as in `sshmap.store.schema`."""

    task: int
    members: tuple[str, ...]
    output: str
    state: TaskState
    #: 0 of a task that waits for its first attempt
    attempt: int
    slot: int
    queued: float
    began: float
    ended: float = 0.0
    #: None while it runs, or waits to
    outcome: AttemptEnd | None = None
    ran: float = 0.0
    user: float = 0.0
    system: float = 0.0
    peak: int = 0
    received: int = 0
    made: int = 0
    kind: str = ""
    message: str = ""
    exit_code: int = 0
    stderr: bytes = b""


def attempts_of(
    ledger: Ledger, run: int, *, failed: bool = False, subject: str = "", stderr: bool = False, since: float = 0.0
) -> Iterator[Past]:
    """Go through the attempts of a run in the order of its tasks; after those of a task, the one that runs or waits.

    Args:
        ledger: an open ledger, on which nothing is written meanwhile.
        run: number of the run in this ledger.
        failed: only attempts that failed.
        subject: only those of tasks with this input or output.
        stderr: with what they said.
        since: only attempts that ended after this, in seconds since 1970; 0 for all.
    """
    conditions = {
        " AND outcome = 'failed'": failed, " AND ended > :since": since, " AND :subject IN (members, output)": subject,
    }  # fmt: skip
    which = "".join(condition for condition, wanted in conditions.items() if wanted)
    rows = ledger.db.execute(
        f"SELECT {_FIELDS}, {'stderr' if stderr else 'NULL'} FROM tasks LEFT JOIN attempts ON task = tasks.id "
        f"WHERE run = :run{which} ORDER BY tasks.id, number",
        {"run": run, "subject": subject, "since": since},
    )
    before: tuple[object, ...] = (0,)
    shows_present = not failed and not since
    for row in rows:
        if shows_present and before[0] != row[0]:
            yield from _present(before)
        if row[8] is not None:
            yield _ended(row)
        before = row
    if shows_present:
        yield from _present(before)


def _present(row: tuple[object, ...]) -> Iterator[Past]:
    """Go through the attempt of a task that runs, or the task if it waits or was cancelled while it waited."""
    if len(row) == 1 or not (row[3] in _UNFINISHED or (row[3] == "cancelled" != row[13])):
        return
    begun = row[3] in ("running", "sending")
    yield _past(row, attempt=row[4] * begun, slot=row[5], queued=row[6], began=row[7] if begun else 0)  # type: ignore[operator]


def _ended(row: tuple[object, ...]) -> Past:
    names = (
        "ended",
        "outcome",
        "ran",
        "user",
        "system",
        "peak",
        "received",
        "made",
        "kind",
        "message",
        "exit_code",
        "stderr",
    )
    values = {name: value for name, value in zip(names, row[12:], strict=True) if value is not None}
    return _past(row, attempt=row[8], slot=row[9], queued=row[10], began=row[11], **values)


def _past(row: tuple[object, ...], **values: object) -> Past:
    filled = {name: 0 if value is None else value for name, value in values.items()}
    members = tuple(str(row[1]).split("\n"))
    return msgspec.convert(
        {"task": row[0], "members": members, "output": row[2], "state": row[3], **filled}, Past, strict=False
    )
