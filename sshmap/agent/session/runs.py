"""What a client can ask about runs: which there are, what became of their tasks; following and cancelling them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from sshmap.agent.host import lifecycle
from sshmap.agent.host.wake import wake
from sshmap.agent.session.following import Following
from sshmap.agent.shuffle import drop_sending
from sshmap.errors import HostLost
from sshmap.limits import Limits
from sshmap.model import Ending, Force, JobSpec, RunId, TaskState, Verb, show
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameWriter
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.forgetting import Forgetting
from sshmap.store.history import Past, attempts_of
from sshmap.store.jobs import Jobs, Run, RunRow
from sshmap.store.kept_failures import KeptFailures
from sshmap.store.ledger import Ledger
from sshmap.store.tasks import Tasks
from sshmap.transport.channel import Channel

#: rows in one message: few, as each may hold some KiB of stderr
_ROWS = 500
#: running tasks that are told
_MOST_TASKS = 1000
#: characters of a command that are shown
_SHOWN = 500
#: seconds that commands may take to end, by how they are ended
_LIMITS = {Force.WAIT: 0.0, Force.TERM: 9.0, Force.KILL: 4.0}


class ServedRuns:
    """The part of a session that is about runs.

    Args:
        store: the session's store.
        channel: becomes readable when the client leaves.
        writer: writes the answers.
    """

    def __init__(self, store: Store, channel: Channel, writer: FrameWriter) -> None:
        self._store, self._channel, self._writer = store, channel, writer
        self._jobs, self._endings = Jobs(store.ledger), Endings(store.ledger)

    def list_runs(self, _: m.Jobs) -> None:
        """Send the runs that this host knows, but for those that were opened and not started."""
        rows = (self._row(run) for run in self._jobs.runs() if run.number)
        self._writer.message(m.JobList(jobs=tuple(rows)))

    def _row(self, run: RunRow) -> m.JobRow:
        made_by = self._store.keys.maker(run.maker)
        states, size = self._jobs.states(Run(seq=run.seq, id=RunId(run.id), epoch=0))
        return m.JobRow(
            job=run.job, run=run.id, number=run.number, verb=Verb(run.verb), indir=run.indir, outdir=run.outdir,
            command=made_by.command[:_SHOWN] if made_by else "", submitted=int(run.submitted), ended=int(run.ended or 0),
            origin=run.origin, ending=Ending(run.ending) if run.ending else None, queueing=not run.complete, wanted=tuple(run.wanted.split()),
            states={TaskState(state): count for state, count in states.items()}, size=size, kept=run.kept,
            limits=msgspec.json.decode(run.limits, type=Limits),
        )  # fmt: skip

    def get_job(self, request: m.GetJob) -> None:
        """Send what a run was asked to do."""
        run = self._jobs.row(RunId(request.run), request.job)
        maker = self._store.keys.maker(run.maker)
        assert maker is not None, "a job's maker is remembered with the job"
        job = JobSpec(
            indir=run.indir,
            outdir=run.outdir,
            maker=maker,
            replace=run.replaces,
            partial=run.partial,
            keep_done=run.keep_done,
        )
        self._writer.message(m.JobIs(job=job, limits=msgspec.json.decode(run.limits, type=Limits)))

    def list_attempts(self, request: m.ListAttempts) -> None:
        """Send the attempts of a run."""
        run, count = self._jobs.row(RunId(request.run)), 0
        subject = request.key.split("://", 1)[-1]
        with contextlib.closing(Ledger(self._store.root)) as ledger:
            rows = attempts_of(
                ledger, run.seq, failed=request.failed, subject=subject, stderr=request.stderr, since=request.since
            )
            while page := tuple(_attempt_row(row, Verb(run.verb)) for row in itertools.islice(rows, _ROWS)):
                count += len(page)
                self._writer.message(m.AttemptList(rows=page))
        self._writer.message(m.Served(count=count))

    def follow(self, request: m.Follow) -> None:
        """Follow a run that was started before, from its beginning."""
        row = self._jobs.row(RunId(request.run))
        run = Run(seq=row.seq, id=RunId(row.id), epoch=0)
        following = Following(
            self._store,
            run,
            Verb(row.verb),
            lambda: self._jobs.kept(row.seq),
            msgspec.json.decode(row.limits, type=Limits),
        )
        ended = following.follow(self._writer.message, self._channel.readable)
        self._writer.message(ended)

    def cancel(self, request: m.CancelRun) -> None:
        """Cancel or halt a run; if the client waits, answer when none of its commands runs any more, or after some seconds."""
        run, force = RunId(request.run), request.force
        if request.halt:
            self._endings.halt(self._jobs.find(run, 0).seq, force)
        else:
            self._endings.cancel(run, force)
            self._endings.owe(run, request.unreached)
        if force:
            self._continue_workers(run)
        wake(self._store.root)
        while self._endings.drop_queued() or drop_sending(self._store):
            continue
        deadline = time.monotonic() + _LIMITS[force] * request.wait
        while (left := self._left(run)) and time.monotonic() < deadline and not self._channel.readable(0.02):
            continue
        self._writer.message(m.CancelNoted(left=left))

    def _continue_workers(self, run: RunId) -> None:
        """Have workers that were stopped by a signal go on: nobody else ends the commands that they run."""
        for slot in self._endings.running_slots(run):
            if holder := locks.holder_of(self._store.root, f"worker-{slot}"):
                with contextlib.suppress(OSError):
                    os.kill(holder, signal.SIGCONT)

    def look(self, _: m.Look) -> None:
        """Say what this host does right now."""
        active, now = self._jobs.active(), time.time()
        disk = os.statvfs(self._store.root.path)
        tasks = tuple(
            m.TaskNow(
                number,
                run,
                show(output if verb == Verb.MERGE.value else members.split("\n", 1)[0]),
                slot or 0,
                now - began,
            )
            for number, run, verb, members, output, slot, began in Tasks(self._store.ledger).running(_MOST_TASKS)
        )
        self._writer.message(
            m.Seen(
                queued=active.get("queued", 0), sending=active.get("sending", 0), size=self._jobs.made(), load=os.getloadavg()[0],
                cores=os.cpu_count() or 1, free=disk.f_bavail * disk.f_frsize, tasks=tasks,
            )
        )  # fmt: skip

    def forget(self, request: m.Forget) -> None:
        """Forget runs that ended long enough ago, with what belongs to them alone."""
        forgetting = Forgetting(self._store)
        while forgetting.step(request.age):
            if self._channel.readable(0.0):
                raise HostLost("the client left")
        forgetting.drop_shipped()
        files, size = KeptFailures(self._store).drop(request.age)
        freed = forgetting.freed
        self._writer.message(
            m.Forgotten(runs=freed.runs, attempts=freed.attempts, files=freed.files + files, size=freed.size + size)
        )

    def _left(self, run: RunId) -> int:
        """Return the number of unfinished tasks; of a daemon that was killed, the next one takes them back."""
        left = self._endings.left(run)
        if left:
            lifecycle.ensure_running(self._store.root)
        return left


def _attempt_row(past: Past, verb: Verb) -> m.AttemptRow:
    key = show(past.output if verb is Verb.MERGE else past.members[0])
    return m.AttemptRow(
        task=past.task, key=key, state=past.state, attempt=past.attempt, slot=past.slot, queued=past.queued, began=past.began,
        ended=past.ended, outcome=past.outcome, ran=past.ran, user=past.user, system=past.system, peak=past.peak,
        received=past.received, made=past.made, kind=past.kind, message=past.message, exit_code=past.exit_code, stderr=past.stderr,
    )  # fmt: skip


#: who answers which request
RUN_REQUESTS: dict[type[m.Message], Callable[[ServedRuns, Any], None]] = {
    m.Jobs: ServedRuns.list_runs, m.GetJob: ServedRuns.get_job, m.ListAttempts: ServedRuns.list_attempts,
    m.Follow: ServedRuns.follow, m.CancelRun: ServedRuns.cancel, m.Forget: ServedRuns.forget, m.Look: ServedRuns.look,
}  # fmt: skip
