"""A job over all hosts: ship its files, plan it everywhere, start it everywhere, gather how it goes.

Every host expands the job itself; the client only adds up. The work belongs to the hosts:
if the client ends, they finish the job, and the same command joins its run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import xxhash

from sshmap.client.attachments import Attachment
from sshmap.client.conversations import Conversations
from sshmap.client.described import Job, Options
from sshmap.client.following import Followed, Part, RunFollower
from sshmap.client.job_answers import check_accepted, check_plan, check_whole, counted
from sshmap.client.job_results import HostPlan, JobResult
from sshmap.client.results import raise_failures
from sshmap.client.runs import cancel, origin
from sshmap.client.sweeping import prune, sweep
from sshmap.errors import (
    Cancelled,
    HostLost,
    Interrupted,
    NoSpace,
    NothingMatched,
    ProtocolError,
    SshmapError,
    UsageError,
)
from sshmap.limits import Limits
from sshmap.model import Force, Receipt, Verb, base_name, parse_name
from sshmap.protocol import messages as m
from sshmap.protocol.framing import CHUNK
from sshmap.store.receipts import combine
from sshmap.transport.session import Session

#: rows in one message
_ROWS = 2000
#: highest number of a run that is believed
_MOST_NUMBER = 10**9


class JobRun:
    """One submission of a job.

    Args:
        conversations: the cluster.
        job: what is to be done.
        options: see `Options`.
    """

    def __init__(self, conversations: Conversations, job: Job, options: Options) -> None:
        self._conversations = conversations
        self.spec, self._attachments, self._hosts = job.spec, job.attachments, job.hosts
        self._wanted = tuple(host.name for host in conversations.hosts)
        self._absent = job.absent
        self._options = options
        self._limits = options.get("limits", Limits())
        self._plans: dict[str, m.Planned] = {}
        self._counts: dict[str, list[m.OutputCount]] = {}
        self._id = os.urandom(6).hex()
        #: the run on each host: made with this id, or one that was not over and was joined
        self._runs: dict[str, m.Opened] = {}
        self._number = 0

    def run(self) -> JobResult:
        """Run the job to its end, or until it is queued everywhere; Ctrl-C cancels it.

        Raises:
            NothingMatched: INDIR holds no key.
            OtherReceipt: outputs are there that other work made; nothing was run.
            JobFailed: the job is over but not complete.
            Cancelled: the user has pressed Ctrl-C on the command line.
            HostLost: so it is, and a host was not told of it.
        """
        try:
            return self._run()
        except (KeyboardInterrupt, Interrupted) as exc:
            if self._runs:
                self._cancel()
                if isinstance(exc, Interrupted):
                    error = Cancelled(f"run {self._number} is cancelled", hint="the same command goes on from there")
                    raise error from None
            raise

    def _run(self) -> JobResult:
        began = time.monotonic()
        lost = self._plan()
        follower = RunFollower(
            self._conversations, self._followed(), self._parts(), self._begin, self._options.get("report")
        )
        finished, failures = follower.follow()
        lost |= failures
        for error in lost.values():
            if not isinstance(error, HostLost | NoSpace):
                raise error
        if self.spec.replace and not self._options.get("detach"):
            # the keys of other work beside the fresh outputs; of a run that is tried again only where it was known
            sweep(self._conversations, follower.stale, orphaned=False, hosts=self._hosts)
        result = follower.result(finished, lost, time.monotonic() - began)
        result.orphans = sum(plan.orphans for plan in self._plans.values())
        if not self._options.get("detach") or result.lost:
            result.check()
        if self._options.get("prune") and result.orphans:
            result.pruned, result.orphans = prune(self._conversations, self.spec), 0
            result.seconds = time.monotonic() - began
        return result

    def explain(self) -> tuple[dict[str, HostPlan], dict[str, SshmapError]]:
        """Say what each host would do about the job, changing nothing; return that, and what failed, by host."""
        names = [host.name for host in self._conversations.hosts]
        lost: dict[str, SshmapError] = {}
        if self.spec.maker.verb is Verb.FANOUT:
            self._counts, lost = self._count_outputs(names)
        asked = [name for name in names if name not in lost]
        plans, failures = self._conversations.gather(
            lambda name: self._conversations.ask(name, lambda session: self._explain_one(session, name)), asked
        )
        return plans, lost | failures

    def _explain_one(self, session: Session, name: str) -> HostPlan:
        session.begin(m.Explain(job=self.spec), m.Explained, m.Problem, flush=False)
        self._send_counts(session, name)
        plan = HostPlan()
        while not isinstance(message := session.next(), m.Explained):
            if not isinstance(message, m.Reasons) or not message.rows:
                raise ProtocolError(f"{type(message).__name__} came instead of reasons", host=name)
            plan.take(message.rows)
        plan.free, plan.seconds = message.free, message.seconds
        return plan

    def _followed(self) -> Followed:
        return Followed(
            job=next(iter(self._plans.values())).job, number=self._number, verb=self.spec.maker.verb, indir=self.spec.indir,
            outdir=self.spec.outdir, limits=self._limits,
        )  # fmt: skip

    def _parts(self) -> dict[str, Part]:
        return {
            name: Part(run=self._runs[name].run, fresh=plan.fresh, kept=plan.kept, inputs=plan.inputs)
            for name, plan in self._plans.items()
        }

    def _cancel(self) -> None:
        """Cancel the run on all hosts; Ctrl-C once more kills the commands at once.

        Raises:
            HostLost: a host was not told.
        """
        note = self._options.get("note") or (lambda _: None)
        note(f"cancelling run {self._number} for all who follow it; Ctrl-C again kills its commands at once")
        ids = {name: opened.run for name, opened in self._runs.items()}
        names = [host.name for host in self._conversations.hosts]
        wanted = {name: ids.get(name, self._id) for name in names}
        try:
            left = cancel(self._conversations, wanted, Force.TERM)
        except (KeyboardInterrupt, Interrupted):
            left = cancel(self._conversations, wanted, Force.KILL)
        if left:
            note(f"note: {left} of its tasks have not ended yet")

    def _open_all(self) -> dict[str, SshmapError]:
        """Open the job on every host; return the hosts that are lost.

        Where the job is worked on, on any host, its run is joined on all.
        """
        lost: dict[str, SshmapError]
        self._runs, lost = self._open_on(self._hosts)
        if self._conversations.run_errands():
            # a run may have been joined that is cancelled elsewhere
            self._runs, lost = self._open_on(self._hosts)
        if self._runs:
            # one that was started, else the one that every client chooses who opens the job at the same time
            self._id = min(self._runs.values(), key=lambda opened: (-opened.number, opened.run)).run
        if others := [name for name, opened in self._runs.items() if opened.run != self._id]:
            opened, failures = self._open_on(others, agreed=True)
            self._runs |= opened
            lost |= failures
        highest = max((min(opened.highest, _MOST_NUMBER) for opened in self._runs.values()), default=0)
        self._number = max((opened.number for opened in self._runs.values()), default=0) or highest + 1
        return lost | self._absent

    def _open_on(
        self, names: Iterable[str] | None, *, agreed: bool = False
    ) -> tuple[dict[str, m.Opened], dict[str, SshmapError]]:
        request = m.Open(job=self.spec, run=self._id, agreed=agreed)
        return self._conversations.gather(
            lambda name: self._conversations.ask(name, lambda session: session.ask(request, m.Opened)), names
        )

    def _plan(self) -> dict[str, SshmapError]:
        """Plan the job on every host; return the hosts that are lost."""
        lost = self._open_all()
        if self.spec.maker.verb is Verb.FANOUT:
            self._counts, more = self._count_outputs(self._runs)
            lost |= more
        names = [name for name in self._runs if name not in lost]
        lost |= self._equip(names)
        names = [name for name in names if name not in lost]
        plans, failures = self._conversations.gather(
            lambda name: self._conversations.ask(name, lambda session: self._plan_one(session, name)), names
        )
        self._plans = plans
        lost |= failures
        raise_failures({name: error for name, error in lost.items() if not isinstance(error, HostLost)}, {})
        if not plans:
            raise_failures(lost, {})
        self._check(plans, lost)
        return lost

    def _equip(self, names: Iterable[str]) -> dict[str, SshmapError]:
        """Have hosts have the packages that the job's function imports; return what failed, by host."""
        if not self.spec.maker.packages:
            return {}
        from sshmap.client.packages import equip  # imports what few jobs need

        return equip(self._conversations, names, self.spec.maker.packages)

    def _plan_one(self, session: Session, name: str) -> m.Planned:
        here = {attachment.file: attachment for attachment in self._attachments}
        for file in self.spec.maker.shipped:
            if session.ask(m.Ship(file=file), m.Wanted).wanted:
                if file not in here:
                    raise UsageError(
                        f"{name} does not have the shipped file {file.name!r} any more",
                        hint="type the command again, with --with",
                    )
                self._ship(session, here[file])
        run = self._runs[name]
        session.begin(
            m.Plan(job=self.spec, run=run.run, epoch=run.epoch, sample=self._options.get("sample", 0)),
            m.Planned,
            m.Problem,
            flush=False,
        )
        self._send_counts(session, name)
        return check_plan(name, session.expect(m.Planned))

    def _send_counts(self, session: Session, name: str) -> None:
        """Send a host the counts, over all hosts, of the outputs of its inputs."""
        counts = self._counts.get(name, [])
        for start in range(0, len(counts), _ROWS):
            session.writer.message(m.OutputCounts(rows=tuple(counts[start : start + _ROWS])), flush=False)
        session.writer.message(m.Counted())

    @staticmethod
    def _ship(session: Session, attachment: Attachment) -> None:
        content = attachment.read()
        for start in range(0, len(content), CHUNK):
            session.writer.data(content[start : start + CHUNK])
        session.ask(m.End(size=len(content), digest=xxhash.xxh3_128_digest(content)), m.Synced)

    def _check(self, plans: dict[str, m.Planned], lost: dict[str, SshmapError]) -> None:
        """Refuse a job whose outputs others made, of whose inputs a part is missing, or that has none.

        Raises:
            SshmapError: the reason.
        """
        if self.spec.maker.verb is Verb.MERGE and not self.spec.partial:
            check_whole(self.spec.indir, plans.values())
        check_accepted(plans)
        if not lost and not any(plan.inputs for plan in plans.values()):
            raise NothingMatched(f"no key matches INDIR {self.spec.indir}", hint="sshmap ls shows what there is")

    def _count_outputs(self, names: Iterable[str]) -> tuple[dict[str, list[m.OutputCount]], dict[str, SshmapError]]:
        """Add up what all hosts hold below OUTDIR, and return for each host the counts of its inputs' outputs, and lost hosts."""
        outdir = parse_name(self.spec.outdir)

        def ask(name: str) -> list[m.OutputCount]:
            return self._conversations.ask(name, lambda session: list(counted(session, outdir)))

        answers, lost = self._conversations.gather(ask, names)
        sums: dict[tuple[str, Receipt | None], m.OutputCount] = {}
        for rows in answers.values():
            for row in rows:
                key = (row.output, row.receipt)
                sums[key] = _add(sums[key], row) if key in sums else row
        dealt: dict[str, list[m.OutputCount]] = {}
        for row in sums.values():
            dealt.setdefault(self._conversations.ring.place(base_name(row.output.rstrip("/"))), []).append(row)
        return dealt, lost

    def _begin(self, name: str, session: Session) -> None:
        """Send a host the request that starts the job; repeating it goes on with the same run."""
        run = self._runs[name]
        start = m.Start(
            job=self.spec, run=run.run, epoch=run.epoch, number=self._number, origin=origin(), limits=self._limits,
            detach=self._options.get("detach", False), sample=self._options.get("sample", 0),
            notify=self._options.get("notify_host", ""), hosts=tuple(self._plans),
            wanted=self._wanted,
        )  # fmt: skip
        session.begin(start, m.RunEnded, m.Problem, flush=False)
        self._send_counts(session, name)


def _add(one: m.OutputCount, other: m.OutputCount) -> m.OutputCount:
    return m.OutputCount(one.output, one.receipt, one.count + other.count, combine(one.names, other.names))
