"""Which fan-out outputs below a directory are not where they belong yet, so that a merge would miss them.

That is said of tasks that have failed or are unfinished, and of files that wait in the outbox. Only the newest run of each
input counts, whatever its command. A failure counts no longer when a later run made or found that input's outputs, or
when the input is gone, or what it would have made was deleted after the run had begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sshmap.model import Gap, parse_name
from sshmap.store.keys import Keys, after_prefix
from sshmap.store.ledger import Ledger


class _Run(NamedTuple):
    seq: int
    job: str
    maker: bytes


class _Open(NamedTuple):
    """A task without outputs."""

    output: str
    member: str
    failed: bool
    inputs: bytes


def note_removal(ledger: Ledger, prefix: str) -> None:
    """Note that all keys with a prefix were deleted, so that what runs before that failed to make is not missed; within a transaction."""
    ledger.db.execute("DELETE FROM removals WHERE seq < (SELECT coalesce(min(seq), 0) FROM runs)")
    ledger.db.execute(
        "INSERT OR REPLACE INTO removals SELECT ?, max(seq) FROM runs HAVING max(seq) IS NOT NULL", (prefix,)
    )


class Wholeness:
    """Looks for gaps below one directory.

    Args:
        ledger: an open ledger.
        prefix: the directory, or with what its keys' names start.
    """

    def __init__(self, ledger: Ledger, prefix: str) -> None:
        self._db, self._keys, self._prefix = ledger.db, Keys(ledger), prefix
        query = (
            "SELECT seq, jobs.id, maker, outdir FROM jobs JOIN runs ON job = jobs.id WHERE verb = 'fanout' ORDER BY seq"
        )
        self._runs = [
            _Run(seq, job, maker)
            for seq, job, maker, outdir in self._db.execute(query)
            if _overlap(parse_name(outdir), prefix)
        ]

    def gaps(self) -> list[Gap]:
        """Return what is missing, by job."""
        counts: dict[str, list[int]] = {}
        files = self._files()
        for place, run in enumerate(self._runs):
            failed = unfinished = 0
            for task in self._open(run.seq):
                if _overlap(task.output, self._prefix) and self._counts(run, task, self._runs[place + 1 :]):
                    failed, unfinished = failed + task.failed, unfinished + (not task.failed)
            if failed or unfinished or run.seq in files:
                found = counts.setdefault(run.job, [0, 0, 0])
                found[:] = [found[0] + failed, found[1] + unfinished, found[2] + files.get(run.seq, 0)]
        return [Gap(job, *numbers) for job, numbers in counts.items()]

    def _files(self) -> dict[int, int]:
        """Return the number of files below the directory that wait in the outbox, by run."""
        query = (
            "SELECT run, count(*) FROM outbox JOIN tasks ON tasks.id = task WHERE name >= ? AND name < ? GROUP BY run"
        )
        return dict(self._db.execute(query, (self._prefix, after_prefix(self._prefix)))) if self._runs else {}

    def _open(self, seq: int) -> Iterator[_Open]:
        """Go through a run's tasks that have failed, were cancelled, or are queued or running."""
        failed = "SELECT output, members, 1, inputs FROM tasks WHERE run = ? AND state = 'failed'"
        others = "SELECT output, members, 0, inputs FROM tasks WHERE epoch = 0 AND state IN ('queued', 'running') AND run = ?"
        cancelled = "SELECT output, members, 0, inputs FROM tasks WHERE run = ? AND state = 'cancelled'"
        for query in (failed, cancelled, others):
            for output, members, is_failed, inputs in self._db.execute(query, (seq,)):
                yield _Open(output, members.split("\n")[0], bool(is_failed), inputs)

    def _counts(self, run: _Run, task: _Open, later: list[_Run]) -> bool:
        """Say whether the task's outputs are still wanted, and no later run has seen to them."""
        return not (
            self._ran_again(task.output, later)
            or self._kept(task, later)
            or self._removed(task.output, run.seq)
            or self._keys.get(task.member) is None
        )

    def _ran_again(self, output: str, later: list[_Run]) -> bool:
        numbers = ",".join(str(run.seq) for run in later)
        query = f"SELECT 1 FROM tasks WHERE run IN ({numbers}) AND output = ? LIMIT 1"
        return self._db.execute(query, (output,)).fetchone() is not None

    def _kept(self, task: _Open, later: list[_Run]) -> bool:
        """Say whether a later run is of the job that made the outputs that are there, and so has kept them."""
        query = "SELECT maker FROM fanouts WHERE output = ? AND inputs = ?"
        row = self._db.execute(query, (task.output, task.inputs)).fetchone()
        return row is not None and any(run.maker == row[0] for run in later)

    def _removed(self, output: str, seq: int) -> bool:
        query = "SELECT 1 FROM removals WHERE seq >= ? AND substr(?, 1, length(prefix)) = prefix LIMIT 1"
        return self._db.execute(query, (seq, output)).fetchone() is not None


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
