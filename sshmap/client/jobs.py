"""A job over all hosts: ship its files, plan it everywhere, start it everywhere, gather how it goes.

Every host expands the job itself; the client only adds up. The work belongs to the hosts:
if the client ends, they finish the job, and the same command joins its run.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec
import xxhash

from sshmap.client.attachments import Attachment, attach
from sshmap.client.conversations import Conversations
from sshmap.client.job_answers import (
    MOST_ROWS,
    check_accepted,
    check_directories,
    check_peers,
    check_plan,
    check_whole,
    counted,
)
from sshmap.client.relay import Relays
from sshmap.client.results import HostResult, JobFailed, JobResult, TaskFailure, raise_failures
from sshmap.client.sweeping import prune, sweep
from sshmap.errors import HostLost, NothingMatched, ProtocolError, SshmapError
from sshmap.job_checks import check_job
from sshmap.model import JobSpec, Maker, Receipt, Verb, base_name, parse_name
from sshmap.protocol import messages as m
from sshmap.protocol.framing import CHUNK
from sshmap.store.receipts import combine
from sshmap.transport.session import Session

#: rows in one message
_ROWS = 2000


class JobProgress(msgspec.Struct, kw_only=True):
    """How far a job has come on all hosts together."""

    total: int = 0
    done: int = 0
    failed: int = 0
    kept: int = 0
    #: bytes made
    size: int = 0


class Options(TypedDict, total=False):
    """Options of a job."""

    #: files to stand in every task directory
    shipped: Iterable[Path]
    #: swap outputs that other work made
    replace: bool
    #: for a merge: go on where outputs of fan-outs are missing
    partial: bool
    #: keep what another command made of the same inputs
    keep_done: bool
    #: delete outputs of the same work whose inputs are gone, unless anything of the job fails
    prune: bool
    #: called with the progress of the job, whenever that changes
    report: Callable[[JobProgress], None]


class JobRun:
    """One submission of a job.

    Args:
        conversations: the cluster.
        verb: shape of the job.
        indir: INDIR as typed.
        outdir: OUTDIR as typed.
        command: shell command.
        options: see `Options`.

    Raises:
        UsageError: the job makes no sense.
    """

    def __init__(
        self,
        conversations: Conversations,
        verb: Verb,
        indir: str,
        outdir: str,
        command: str,
        **options: Unpack[Options],
    ) -> None:
        self._conversations = conversations
        self._attachments = attach(options.get("shipped", ()))
        maker = Maker(verb=verb, command=command, shipped=tuple(attachment.file for attachment in self._attachments))
        self.spec = JobSpec(
            indir=f"sm://{parse_name(indir)}",
            outdir=f"sm://{parse_name(outdir)}",
            maker=maker,
            replace=options.get("replace", False),
            partial=options.get("partial", False),
            keep_done=options.get("keep_done", False),
        )
        check_job(self.spec)
        self._report = options.get("report")
        self._prunes = options.get("prune", False)
        self._plans: dict[str, m.Planned] = {}
        self._counts: dict[str, list[m.OutputCount]] = {}
        self._id = os.urandom(6).hex()
        #: the run on each host: made with this id, or one that was not over and was joined
        self._runs: dict[str, m.Opened] = {}
        self._progress: dict[str, m.Progress] = {}
        #: by host: fan-out directories in which keys of other work lie, and the receipts of those to keep
        self._stale: dict[str, list[m.OutputDirectory]] = {}
        self._relays = Relays(conversations)
        self._guard = threading.Lock()

    def run(self) -> JobResult:
        """Run the job to its end.

        Raises:
            NothingMatched: INDIR holds no key.
            OtherReceipt: outputs are there that other work made; nothing was run.
            JobFailed: the job is over but not complete.
        """
        began = time.monotonic()
        lost = self._plan()
        with contextlib.closing(self._relays):
            finished, failures = self._conversations.gather(self._start, self._plans)
        lost |= failures
        for error in lost.values():
            if not isinstance(error, HostLost):
                raise error
        if self.spec.replace:
            # the keys of other work beside the fresh outputs
            sweep(self._conversations, [row for rows in self._stale.values() for row in rows], orphaned=False)
        result = self._result(finished, lost, time.monotonic() - began)
        if result.lost or result.failures:
            raise JobFailed(result)
        if self._prunes and result.orphans:
            result.pruned, result.orphans = prune(self._conversations, self.spec), 0
            result.seconds = time.monotonic() - began
        return result

    def _plan(self) -> dict[str, SshmapError]:
        """Plan the job on every host; return the hosts that are lost."""
        self._runs, lost = self._conversations.gather(lambda name: self._conversations.ask(name, self._open))
        if self.spec.maker.verb is Verb.FANOUT:
            self._counts, more = self._count_outputs()
            lost |= more
        names = [name for name in self._runs if name not in lost]
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

    def _plan_one(self, session: Session, name: str) -> m.Planned:
        for attachment in self._attachments:
            if session.ask(m.Ship(file=attachment.file), m.Wanted).wanted:
                self._ship(session, attachment)
        run = self._runs[name]
        session.begin(m.Plan(job=self.spec, run=run.run, epoch=run.epoch), m.Planned, m.Problem, flush=False)
        self._send_counts(session, name)
        return check_plan(name, session.expect(m.Planned))

    def _send_counts(self, session: Session, name: str) -> None:
        """Send a host the counts, over all hosts, of the outputs of its inputs."""
        counts = self._counts.get(name, [])
        for start in range(0, len(counts), _ROWS):
            session.writer.message(m.OutputCounts(rows=tuple(counts[start : start + _ROWS])), flush=False)
        session.writer.message(m.Counted())

    def _open(self, session: Session) -> m.Opened:
        return session.ask(m.Open(job=self.spec, run=self._id), m.Opened)

    @staticmethod
    def _ship(session: Session, attachment: Attachment) -> None:
        content = attachment.path.read_bytes()
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

    def _count_outputs(self) -> tuple[dict[str, list[m.OutputCount]], dict[str, SshmapError]]:
        """Add up what all hosts hold below OUTDIR, and return for each host the counts of its inputs' outputs, and lost hosts."""
        outdir = parse_name(self.spec.outdir)

        def ask(name: str) -> list[m.OutputCount]:
            return self._conversations.ask(name, lambda session: list(counted(session, outdir)))

        answers, lost = self._conversations.gather(ask, self._runs)
        sums: dict[tuple[str, Receipt | None], m.OutputCount] = {}
        for rows in answers.values():
            for row in rows:
                key = (row.output, row.receipt)
                sums[key] = _add(sums[key], row) if key in sums else row
        dealt: dict[str, list[m.OutputCount]] = {}
        for row in sums.values():
            dealt.setdefault(self._conversations.ring.place(base_name(row.output.rstrip("/"))), []).append(row)
        return dealt, lost

    def _start(self, name: str) -> m.RunEnded:
        """Start the job on one host and follow it; after a break, Start is sent again, which goes on with the same run."""

        def converse(session: Session) -> m.RunEnded:
            finished = self._follow(name, session)
            # the host gives its peer up after some seconds without progress, in which a large file may still be relayed
            while self._relays.carries(name, finished.stuck):
                finished = self._follow(name, session)
            return finished

        return self._conversations.ask(name, converse, progress=lambda: self._progress.get(name))

    def _follow(self, name: str, session: Session) -> m.RunEnded:
        self._stale[name] = []
        run = self._runs[name]
        session.begin(m.Start(job=self.spec, run=run.run, epoch=run.epoch), m.RunEnded, m.Problem, flush=False)
        self._send_counts(session, name)
        while not isinstance(message := session.next(), m.RunEnded):
            if isinstance(message, m.Progress):
                check_peers(name, message, self._conversations.ring)
                self._advance(name, message)
            elif isinstance(message, m.StaleOutputs):
                check_directories(name, message, parse_name(self.spec.outdir), self._conversations.ring)
                self._stale[name] += message.directories
                if len(self._stale[name]) > min(self._plans[name].inputs, MOST_ROWS):
                    raise ProtocolError("it speaks of more stale outputs than it has inputs", host=name)
            else:
                raise ProtocolError(f"{type(message).__name__} came while the job was followed", host=name)
        check_peers(name, message, self._conversations.ring)
        return message

    def _advance(self, name: str, progress: m.Progress) -> None:
        with self._guard:
            self._progress[name] = progress
            if self._conversations.inventory.shuffle != "direct":
                self._relays.ensure(name, set(progress.stuck) - set(progress.barred))
            if self._report:
                self._report(self._job_progress())

    def _job_progress(self) -> JobProgress:
        plans, parts = self._plans.values(), self._progress.values()
        return JobProgress(
            total=sum(plan.fresh for plan in plans), kept=sum(plan.kept for plan in plans), done=sum(part.done for part in parts),
            failed=sum(part.failed for part in parts), size=sum(part.size for part in parts),
        )  # fmt: skip

    def _result(self, finished: dict[str, m.RunEnded], lost: dict[str, SshmapError], seconds: float) -> JobResult:
        hosts = {
            name: HostResult(
                done=answer.done, failed=answer.failed, kept=answer.kept, sending=answer.sending, size=answer.size
            )
            for name, answer in finished.items()
        }
        hosts |= {name: self._last_known(name) for name in self._plans if name in lost}
        failures = [
            TaskFailure(host=name, key=f.key, attempt=f.attempt, kind=f.kind, message=f.message, exit_code=f.exit_code)
            for name, answer in finished.items()
            for f in answer.failures
        ]
        result = JobResult(
            job=next(iter(self._plans.values())).job, inputs=sum(plan.inputs for plan in self._plans.values()), hosts=hosts,
            failures=failures, relayed=self._relays.used, lost={}, seconds=seconds, cluster=self._conversations.inventory.called,
            orphans=sum(plan.orphans for plan in self._plans.values()),
        )  # fmt: skip
        result.lost = {
            **self._stuck(finished),
            **{name: self._lost_host(name, error, hosts.get(name)) for name, error in lost.items()},
        }
        return result

    def _stuck(self, finished: dict[str, m.RunEnded]) -> dict[str, SshmapError]:
        waiting: dict[str, int] = {}
        why: dict[str, str] = {}
        for answer in finished.values():
            for peer, count in answer.stuck.items():
                waiting[peer] = waiting.get(peer, 0) + count
            why |= answer.why
        return {
            peer: HostLost(
                f"{peer} down: {count} fan-out files for it wait on the other hosts: {why.get(peer, '')}",
                hint="when it is back, run the same command again",
                host=peer,
            )
            for peer, count in waiting.items()
        }

    def _lost_host(self, name: str, error: SshmapError, last: HostResult | None) -> SshmapError:
        what = "groups" if self.spec.maker.verb is Verb.MERGE else "keys"
        number = "an unknown number of"
        if last:
            left = max(0, _tasks(self._plans[name]) - last.done - last.failed - last.kept - last.sending)
            number = f"{left} of {sum(map(_tasks, self._plans.values()))}"
        return HostLost(
            f"{name} down: {number} {what} of {parse_name(self.spec.indir)} not processed: {error.message}",
            hint=error.hint or "when it is back, run the same command again",
            host=name,
        )

    def _last_known(self, name: str) -> HostResult:
        """Return what a lost host had reported last; before that, its outputs that were there."""
        last, kept = self._progress.get(name, m.Progress()), self._plans[name].kept
        return HostResult(
            done=last.done, failed=last.failed, kept=max(kept, last.kept), sending=last.sending, size=last.size
        )


def _tasks(plan: m.Planned) -> int:
    return plan.fresh + plan.kept


def _add(one: m.OutputCount, other: m.OutputCount) -> m.OutputCount:
    return m.OutputCount(one.output, one.receipt, one.count + other.count, combine(one.names, other.names))
