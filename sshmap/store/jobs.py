"""Jobs and their runs: statements on the ledger's ``jobs``, ``runs`` and ``tallies``.

A job is what is to be done; a run is the job as it is worked on, once. A client that opens a job whose newest
run is not over joins that run, unless it is ending: the run's `epoch` grows. A task that ends is stamped with the epoch, so that each
client knows what has ended since it opened the run. A run that is over is history: its rows do not change any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from sshmap.errors import Refused
from sshmap.limits import Limits
from sshmap.model import JobSpec, RunId, parse_name
from sshmap.store.keys import Keys
from sshmap.store.ledger import Ledger
from sshmap.store.receipts import job_id

#: condition that a run has tasks that have not ended
UNFINISHED = "EXISTS (SELECT 1 FROM tallies WHERE run = seq AND epoch = 0 AND tasks > 0)"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as one client has opened it."""

    #: its number in this ledger
    seq: int
    id: RunId
    #: tasks stamped with this epoch or a later one have ended since the client opened the run
    epoch: int
    #: what people call it; 0 until its tasks are queued
    number: int = 0


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as history shows it."""

    seq: int
    id: str
    job: str
    verb: str
    indir: str
    outdir: str
    maker: bytes
    #: seconds since 1970
    submitted: float
    ended: float | None
    kept: int
    number: int
    #: from where it was submitted
    origin: str
    #: why no task of it begins any more
    ending: str
    #: whether all its tasks are queued
    complete: bool
    replaces: bool
    partial: bool
    keep_done: bool
    #: the hosts that the job was submitted to, one a line
    wanted: str
    #: as JSON
    limits: str


class Fanout(msgspec.Struct, frozen=True, kw_only=True):
    """A fan-out that a client has opened on this host."""

    #: without scheme, ends in ``/``
    outdir: str
    #: whether a run of it may swap outputs that other work made
    replaces: bool


class Jobs:
    """Statements on the jobs of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db

    def open(self, spec: JobSpec, run: RunId, *, agreed: bool = False) -> Run:
        """Make a run of a job, or join the newest one if that is not over; asked again with the same id, return the same run.

        So at most one run of a job gets tasks here at a time, also if clients open it at the same time.

        Args:
            spec: the job.
            run: id of the run if it is made.
            agreed: it is the run that all hosts are to work on: the newest one gets this id if it was not started.

        Raises:
            Refused: the run is cancelled.
        """
        job = job_id(spec)
        with self._ledger.change() as db:
            row = db.execute(
                "SELECT seq FROM runs WHERE id = ? UNION ALL SELECT seq FROM runs WHERE seq = "
                "(SELECT max(seq) FROM runs WHERE job = ?) AND ended IS NULL AND ending = ''",
                (run, job),
            ).fetchone()
            if db.execute("SELECT 1 FROM cancels WHERE run = ?", (run,)).fetchone():
                raise Refused(f"run {run} is cancelled", hint="run the command again")
            if row is None:
                return Run(seq=self._add(spec, job, run), id=run, epoch=1)
            if agreed:
                self._agree(job, row[0], run)
            update = "UPDATE runs SET epoch = epoch + 1, replaces = max(replaces, ?) WHERE seq = ? RETURNING seq, id, epoch, number"
            seq, there, epoch, number = db.execute(update, (spec.replace, row[0])).fetchone()
            return Run(seq=seq, id=there, epoch=epoch, number=number)

    def _agree(self, job: str, seq: int, run: RunId) -> None:
        """Give a run that was not started the id that was agreed on; any other one of the job will not be started."""
        values = {"job": job, "seq": seq, "id": run, "now": time.time()}
        self._db.execute("UPDATE runs SET id = :id WHERE seq = :seq AND number = 0", values)
        self._db.execute(
            "UPDATE runs SET ended = :now WHERE job = :job AND number = 0 AND ended IS NULL AND seq <> :seq", values
        )

    def newest(self, job: str) -> Run | None:
        """Return the newest run of a job, as one sees it who opens it now without doing so; None if there is none."""
        row = self._db.execute(
            "SELECT seq, id, epoch + 1 FROM runs WHERE job = ? ORDER BY seq DESC LIMIT 1", (job,)
        ).fetchone()
        return Run(seq=row[0], id=RunId(row[1]), epoch=row[2]) if row else None

    def last_with(self, maker: bytes) -> int:
        """Return the number, in this ledger, of the newest run of a command whose times are known; 0 if there is none."""
        query = "SELECT max(seq) FROM runs JOIN jobs ON jobs.id = job WHERE maker = ? AND EXISTS (SELECT 1 FROM paces WHERE run = seq)"
        return int(self._db.execute(query, (maker,)).fetchone()[0] or 0)

    def state_before(self, outdir: str, output: str) -> str:
        """Return the state of the newest task with an output, of all runs with this OUTDIR; nothing if there is none."""
        query = (
            "SELECT state FROM runs JOIN jobs ON jobs.id = job JOIN tasks ON run = seq WHERE outdir = ? AND output = ? "
            "ORDER BY seq DESC LIMIT 1"
        )
        row = self._db.execute(query, (outdir, output)).fetchone()
        return str(row[0]) if row else ""

    def highest(self) -> int:
        """Return the highest number of a run that this host knows."""
        return int(self._db.execute("SELECT ifnull(max(number), 0) FROM runs").fetchone()[0])

    def begin(self, run: Run, number: int, origin: str, limits: Limits, wanted: tuple[str, ...] = ()) -> None:
        """Note what a client that starts a run says about it; the number and the origin stay what they were."""
        with self._ledger.change() as db:
            db.execute(
                "UPDATE runs SET limits = ?, wanted = ?, number = iif(number > 0, number, ?), origin = iif(origin > '', origin, ?) WHERE seq = ?",
                (msgspec.json.encode(limits).decode(), "\n".join(wanted), number, origin, run.seq),
            )

    def _add(self, spec: JobSpec, job: str, run: RunId) -> int:
        maker = Keys(self._ledger).remember(spec.maker)
        values = (job, spec.maker.verb.value, spec.indir, spec.outdir, maker)
        self._db.execute("INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?)", values)
        cursor = self._db.execute(
            "INSERT INTO runs (id, job, replaces, partial, keep_done, submitted) VALUES (?, ?, ?, ?, ?, ?)",
            (run, job, spec.replace, spec.partial, spec.keep_done, time.time()),
        )
        return int(cursor.lastrowid or 0)

    def find(self, run: RunId, epoch: int) -> Run:
        """Return a run that a client has opened before.

        Raises:
            Refused: it is forgotten.
        """
        row = self._db.execute("SELECT seq FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise _unknown(run)
        return Run(seq=row[0], id=run, epoch=epoch)

    def fanouts(self, maker: bytes) -> list[Fanout]:
        """Return the fan-outs of a maker."""
        rows = self._db.execute(
            "SELECT outdir, max(replaces) FROM jobs JOIN runs ON job = jobs.id WHERE maker = ? AND verb = 'fanout' GROUP BY outdir",
            (maker,),
        )
        return [Fanout(outdir=parse_name(outdir), replaces=bool(replaces)) for outdir, replaces in rows]

    def begin_queueing(self, run: Run) -> None:
        """Note that tasks are being queued, so that the run is not over meanwhile, unless it is cancelled; within a transaction."""
        self._db.execute(
            "UPDATE runs SET queued = NULL, ended = NULL WHERE seq = ? AND ending = '' "
            "AND NOT EXISTS (SELECT 1 FROM cancels WHERE cancels.run = runs.id)",
            (run.seq,),
        )

    def is_ending(self, seq: int) -> bool:
        """Say whether no task of a run begins any more."""
        query = (
            "SELECT ending > '' OR EXISTS (SELECT 1 FROM cancels WHERE cancels.run = runs.id) FROM runs WHERE seq = ?"
        )
        return bool(self._db.execute(query, (seq,)).fetchone()[0])

    def end_queueing(self, run: Run, kept: int) -> None:
        """Note that all tasks are queued, and how many were not, as their outputs are there; within a transaction."""
        self._db.execute(
            f"UPDATE runs SET queued = :now, kept = :kept, ended = iif({UNFINISHED}, NULL, :now) WHERE seq = :run",
            {"now": time.time(), "kept": kept, "run": run.seq},
        )

    def kept(self, seq: int) -> int:
        """Return how many tasks of a run were not queued, as their outputs are there."""
        return int(self._db.execute("SELECT kept FROM runs WHERE seq = ?", (seq,)).fetchone()[0])

    def is_over(self, seq: int) -> bool:
        """Say whether all tasks of a run were queued and have ended."""
        return self._db.execute("SELECT ended FROM runs WHERE seq = ?", (seq,)).fetchone()[0] is not None

    def states(self, run: Run) -> tuple[dict[str, int], int]:
        """Number of the tasks that are unfinished or have ended since the client opened the run, by state, and the bytes they made."""
        rows = self._db.execute(
            "SELECT state, sum(tasks), sum(size) FROM tallies WHERE run = ? AND (epoch = 0 OR epoch >= ?) GROUP BY state",
            (run.seq, run.epoch),
        ).fetchall()
        return {state: count for state, count, _ in rows if count}, sum(size for _, _, size in rows)

    def made(self) -> int:
        """Return the bytes that the tasks of all runs have made."""
        return int(self._db.execute("SELECT ifnull(sum(size), 0) FROM tallies WHERE tasks > 0").fetchone()[0])

    def active(self) -> dict[str, int]:
        """Number of unfinished tasks of all runs by state."""
        rows = self._db.execute("SELECT state, sum(tasks) FROM tallies WHERE epoch = 0 GROUP BY state")
        return {state: count for state, count in rows if count}

    def runs(self) -> Iterator[RunRow]:
        """Go through all runs, newest first."""
        rows = self._db.execute(
            "SELECT seq, runs.id, job, verb, indir, outdir, maker, submitted, ended, kept, number, origin, ending, "
            "queued IS NOT NULL, replaces, partial, keep_done, wanted, limits FROM runs JOIN jobs ON jobs.id = job ORDER BY seq DESC"
        )
        for row in rows:
            yield msgspec.convert(dict(zip(RunRow.__struct_fields__, row, strict=True)), RunRow, strict=False)

    def row(self, run: RunId, job: str = "") -> RunRow:
        """Return one run; where it is not known, the newest run of a job.

        Raises:
            Refused: this host knows neither.
        """
        rows = list(self.runs())
        found = next((row for row in rows if row.id == run), None) or next(
            (row for row in rows if row.job == job), None
        )
        if found is None:
            raise _unknown(run)
        return found


def _unknown(run: RunId) -> Refused:
    return Refused(f"this host knows no run {run}", hint="run the command again")
