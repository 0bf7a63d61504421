"""A run on all hosts, followed by one client: what each host reports, added up, until the run is over everywhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from sshmap.client.conversations import Conversations
from sshmap.client.job_answers import MOST_ROWS, check_directories, check_peers
from sshmap.client.job_results import HostResult, JobResult, TaskFailure
from sshmap.client.relay import Relays
from sshmap.errors import HostLost, HostNotReady, NoSpace, ProtocolError, SshmapError
from sshmap.limits import Limits
from sshmap.model import Force, Verb, parse_name
from sshmap.protocol import messages as m
from sshmap.transport.session import Session


class JobProgress(msgspec.Struct, kw_only=True):
    """How far a job has come on all hosts together."""

    total: int = 0
    done: int = 0
    failed: int = 0
    kept: int = 0
    #: bytes made
    size: int = 0
    #: what each host has reported last
    hosts: dict[str, m.Progress] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a run that one host does."""

    #: the run's id on this host
    run: str
    #: tasks that it will run, as far as is known, and tasks whose outputs were there
    fresh: int
    kept: int
    inputs: int = 0


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What is followed."""

    job: str
    #: what people call the run
    number: int
    verb: Verb
    indir: str
    outdir: str
    limits: Limits = Limits()


class RunFollower:
    """Follows one run on all hosts that take part in it.

    Args:
        conversations: the cluster.
        run: what is followed.
        parts: what each host does.
        begin: sends a host, on a session, the request that makes it report.
        report: called with the progress whenever that changes.
    """

    def __init__(
        self,
        conversations: Conversations,
        run: Followed,
        parts: dict[str, Part],
        begin: Callable[[str, Session], None],
        report: Callable[[JobProgress], None] | None,
    ) -> None:
        self._conversations, self._run, self._parts, self._begin, self._report = (
            conversations,
            run,
            parts,
            begin,
            report,
        )
        self._progress: dict[str, m.Progress] = {}
        #: by host: fan-out directories in which keys of other work lie, and the receipts of those to keep
        self._stale: dict[str, list[m.OutputDirectory]] = {}
        self._relays = Relays(conversations)
        self._halted = False
        self._guard = threading.Lock()

    def follow(self) -> tuple[dict[str, m.RunEnded], dict[str, SshmapError]]:
        """Wait until the run is over on all hosts; return how it ended, and what failed, by host."""
        with contextlib.closing(self._relays):
            return self._conversations.gather(self._follow_one, self._parts)

    @property
    def stale(self) -> list[m.OutputDirectory]:
        """Fan-out directories in which keys of other work lie, with the receipts of those to keep."""
        return [row for rows in self._stale.values() for row in rows]

    def _follow_one(self, name: str) -> m.RunEnded:
        """Follow the run on one host; after a break the request is sent again, which goes on with the same run."""

        def converse(session: Session) -> m.RunEnded:
            finished = self._listen(name, session)
            # the host gives its peer up after some seconds without progress, in which a large file may still be relayed
            while self._relays.carries(name, finished.stuck):
                finished = self._listen(name, session)
            return finished

        return self._conversations.ask(name, converse, progress=lambda: self._progress.get(name))

    def _listen(self, name: str, session: Session) -> m.RunEnded:
        self._stale[name] = []
        self._begin(name, session)
        while not isinstance(message := session.next(), m.RunEnded):
            if isinstance(message, m.Progress):
                check_peers(name, message, self._conversations.ring)
                self._advance(name, message)
            elif isinstance(message, m.StaleOutputs):
                self._note_stale(name, message)
            else:
                raise ProtocolError(f"{type(message).__name__} came while the job was followed", host=name)
        check_peers(name, message, self._conversations.ring)
        return message

    def _note_stale(self, name: str, message: m.StaleOutputs) -> None:
        check_directories(name, message, parse_name(self._run.outdir), self._conversations.ring)
        self._stale[name] += message.directories
        if len(self._stale[name]) > min(self._parts[name].inputs, MOST_ROWS):
            raise ProtocolError("it speaks of more stale outputs than it has inputs", host=name)

    def _advance(self, name: str, progress: m.Progress) -> None:
        with self._guard:
            self._progress[name] = progress
            if self._conversations.inventory.shuffle != "direct":
                self._relays.ensure(name, set(progress.stuck) - set(progress.barred))
            so_far = self.progress()
            if not self._halted and self._run.limits.halts(so_far.failed, so_far.total):
                self._halted = True
                threading.Thread(target=self._halt, name="halt", daemon=True).start()
            if self._report:
                self._report(so_far)

    def _halt(self) -> None:
        force = Force.TERM if self._run.limits.halt_now else Force.WAIT

        def ask(name: str) -> m.CancelNoted:
            request = m.CancelRun(run=self._parts[name].run, force=force, halt=True)
            return self._conversations.ask(name, lambda session: session.ask(request, m.CancelNoted))

        self._conversations.gather(ask, self._parts)

    def progress(self) -> JobProgress:
        """Return how far the run has come."""
        parts = self._progress.values()
        known = {
            name: max(part.fresh, _tasks(self._progress.get(name, m.Progress()))) for name, part in self._parts.items()
        }
        return JobProgress(
            total=sum(known.values()), kept=sum(part.kept for part in self._parts.values()), done=sum(part.done for part in parts),
            failed=sum(part.failed for part in parts), size=sum(part.size for part in parts), hosts=dict(self._progress),
        )  # fmt: skip

    def result(self, finished: dict[str, m.RunEnded], lost: dict[str, SshmapError], seconds: float) -> JobResult:
        """Add up how the run has ended.

        Args:
            finished: how it ended, by host.
            lost: hosts that were lost, those included that had no part yet.
            seconds: how long it took.
        """
        hosts = {
            name: HostResult(
                done=answer.done, failed=answer.failed, kept=answer.kept, sending=answer.sending, size=answer.size,
                cancelled=answer.cancelled, busy=answer.busy,
            )
            for name, answer in finished.items()
        }  # fmt: skip
        hosts |= {name: self._last_known(name) for name in self._parts if name in lost}
        failures = [
            TaskFailure(host=name, key=f.key, attempt=f.attempt, kind=f.kind, message=f.message, exit_code=f.exit_code)
            for name, answer in finished.items()
            for f in answer.failures
        ]
        endings = [answer.ending for answer in finished.values() if answer.ending]
        result = JobResult(
            job=self._run.job, number=self._run.number, inputs=sum(part.inputs for part in self._parts.values()), hosts=hosts,
            failures=failures, relayed=self._relays.used, lost={}, seconds=seconds, cluster=self._conversations.inventory.called,
            ending=endings[0] if endings else None,
        )  # fmt: skip
        result.lost = {
            **_stuck(finished),
            **{name: self._lost_host(name, error, hosts.get(name)) for name, error in lost.items()},
        }
        return result

    def _lost_host(self, name: str, error: SshmapError, last: HostResult | None) -> SshmapError:
        what = "groups" if self._run.verb is Verb.MERGE else "keys"
        number = "an unknown number of"
        if last:
            part = self._parts[name]
            left = max(0, part.fresh + part.kept - last.done - last.failed - last.kept - last.sending - last.cancelled)
            number = f"{left} of {sum(part.fresh + part.kept for part in self._parts.values())}"
        kind, how = (NoSpace, "has no space") if isinstance(error, NoSpace) else (HostLost, "down")
        if name not in self._parts and isinstance(error, HostNotReady):
            how = "left out"
        return kind(
            f"{name} {how}: {number} {what} of {parse_name(self._run.indir)} not processed: {error.message}",
            hint=error.hint or "when it is back, run the same command again",
            host=name,
        )

    def _last_known(self, name: str) -> HostResult:
        """Return what a lost host had reported last; before that, its outputs that were there."""
        last, kept = self._progress.get(name, m.Progress()), self._parts[name].kept
        return HostResult(
            done=last.done, failed=last.failed, kept=max(kept, last.kept), sending=last.sending, size=last.size,
            cancelled=last.cancelled,
        )  # fmt: skip


def _tasks(progress: m.Progress) -> int:
    counts = (progress.queued, progress.running, progress.sending, progress.done, progress.failed, progress.cancelled)
    return sum(counts)


def _stuck(finished: dict[str, m.RunEnded]) -> dict[str, SshmapError]:
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
