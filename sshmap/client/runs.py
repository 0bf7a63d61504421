"""The runs that the hosts know: listing, finding, following and cancelling them, and reading what became of their tasks."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec

from sshmap.client.conversations import Conversations
from sshmap.client.following import Followed, JobProgress, Part, RunFollower
from sshmap.client.job_results import JobResult
from sshmap.client.results import all_of, raise_failures
from sshmap.client.summaries import RunSummary, find_run, list_runs
from sshmap.errors import (
    HostLost,
    HostNotReady,
    HostsFailed,
    NoSpace,
    ProtocolError,
    SshmapError,
)
from sshmap.inventory.ranges import fold
from sshmap.model import Force
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: more attempts than a task can have
_WAITS = 1 << 62
#: seconds within which a host has to answer that it has cancelled a run, by how commands are ended
_CANCEL_LIMITS = {Force.WAIT: 10.0, Force.TERM: 14.0, Force.KILL: 8.0}


_AWAY = "it did not answer when the run was submitted"
#: seconds between two looks for attempts that have ended
_FOLLOW_PAUSE = 1.0


def origin() -> str:
    """Return from where jobs of this process are submitted: ``user@machine``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "?"
    return f"{user}@{socket.gethostname()}"[:255]


def cancel(conversations: Conversations, ids: Mapping[str, str], force: Force) -> int:
    """Cancel a run on hosts, and wait until none of its commands runs any more; return the number of tasks that have not ended yet.

    Args:
        conversations: the cluster.
        ids: the run's id, by host.
        force: how running commands are ended.

    Raises:
        HostLost: hosts were not told; those that were remember it, and the next client that meets both delivers it.
    """

    def ask(name: str, *, unreached: tuple[str, ...] = (), wait: bool = True) -> m.CancelNoted:
        request = m.CancelRun(run=ids[name], force=force, unreached=unreached, wait=wait)
        return conversations.ask(name, lambda session: session.ask(request, m.CancelNoted))

    answers, failures = conversations.gather(ask, ids, limit=_CANCEL_LIMITS[force])
    if failures:
        unreached = tuple(failures)
        conversations.gather(
            lambda name: ask(name, unreached=unreached, wait=False), answers, limit=_CANCEL_LIMITS[force]
        )
        raise _not_told(failures, answers)
    return sum(answer.left for answer in answers.values())


def _not_told(failures: dict[str, SshmapError], answers: Mapping[str, object]) -> HostLost:
    remembered = (
        "the others remember it, and the next command that reaches both delivers it"
        if answers
        else "type it again later"
    )
    first = next(iter(failures.values()))
    return HostLost(f"{fold(failures)} not told that the run is cancelled: {first.message}", hint=remembered)


class RunCalls:
    """The calls of a `Cluster` about runs.

    Args:
        conversations: the way to the hosts.
    """

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    def jobs(self) -> list[RunSummary]:
        """Return the runs that the hosts know, newest first.

        Raises:
            HostsFailed: hosts did not answer; its ``results`` has what the others know, under ``runs``.
        """
        runs, failures = list_runs(self._conversations)
        if failures:
            raise HostsFailed(failures, {"runs": runs})
        return runs

    def job(self, which: str = "last") -> RunSummary:
        """Return the run that is meant by its number, ``last``, or the beginning of its id; hosts that do not answer are passed over.

        Raises:
            NothingMatched: there is none.
            UsageError: several are meant.
        """
        return self._found(which)[0]

    def _found(self, which: str) -> tuple[RunSummary, dict[str, SshmapError]]:
        """Return the run that is meant, and the hosts that did not say what they know of it."""
        runs, failures = list_runs(self._conversations)
        if not runs:
            raise_failures(failures, {})
        return find_run(runs, which), failures

    def attach(self, which: str = "last", report: Callable[[JobProgress], None] | None = None) -> JobResult:
        """Follow a run until it is over, and return how it ended; when this is left, the run goes on.

        Args:
            which: its number, ``last``, or the beginning of its id.
            report: called with the progress whenever that changes.

        Raises:
            JobFailed: it is over but not complete.
        """
        began = time.monotonic()
        run, silent = self._found(which)
        follower = RunFollower(
            self._conversations,
            Followed(
                job=run.job,
                number=run.number,
                verb=run.verb,
                indir=run.indir,
                outdir=run.outdir,
                limits=next(iter(run.hosts.values())).limits,
            ),
            {name: Part(run=run.run, fresh=sum(row.states.values()), kept=row.kept) for name, row in run.hosts.items()},
            lambda _, session: session.begin(m.Follow(run=run.run), m.RunEnded, m.Problem),
            report,
        )
        finished, lost = follower.follow()
        # a host that did not say what it knows of the run may have a part in it
        lost |= silent | {name: HostNotReady(_AWAY, host=name) for name in run.left_out}
        for error in lost.values():
            if not isinstance(error, HostLost | NoSpace):
                raise error
        seconds = run.ended - run.submitted if run.ended else time.time() - run.submitted
        return follower.result(finished, lost, max(seconds, time.monotonic() - began)).check()

    def cancel(self, which: str = "last", *, at_once: bool = False) -> RunSummary:
        """Cancel a run on all hosts, and return what it was; its commands have 5 seconds to end, unless it is to be done at once.

        Raises:
            HostLost: hosts were not told; those that were remember it.
        """
        run = self.job(which)
        ids = {host.name: run.run for host in self._conversations.hosts}
        left = cancel(self._conversations, ids, Force.KILL if at_once else Force.TERM)
        return msgspec.structs.replace(run, unended=left)

    def look(self) -> tuple[dict[str, m.Seen], dict[str, SshmapError]]:
        """Return what the hosts do right now, and hosts that did not answer."""
        return self._conversations.gather(
            lambda host: self._conversations.ask(host, lambda session: session.ask(m.Look(), m.Seen))
        )

    def forget(self, age: float) -> dict[str, m.Forgotten]:
        """Have the hosts forget runs that ended so many seconds ago, with what was shipped for them alone; return what went, by host.

        Raises:
            HostsFailed: hosts did not answer; its ``results`` are the answers of the others.
        """
        request = m.Forget(age=age)
        return all_of(
            *self._conversations.gather(
                lambda host: self._conversations.ask(host, lambda session: session.ask(request, m.Forgotten))
            )
        )

    def attempts(
        self, which: str = "last", *, failed: bool = False, key: str = "", stderr: bool = False
    ) -> Iterator[tuple[str, m.AttemptRow]]:
        """Go through hosts and attempts of a run, host by host.

        Args:
            which: its number, ``last``, or the beginning of its id.
            failed: only attempts that failed.
            key: only those of this input, or group of inputs.
            stderr: with what they said.

        Raises:
            SshmapError: a host did not answer; raised when the attempts on the others were gone through.
        """
        run, silent = self._found(which)
        request = m.ListAttempts(run=run.run, failed=failed, key=key, stderr=stderr)
        for host in run.hosts:
            for row in attempts_on(self._conversations, host, request):
                yield host, row
        raise_failures(silent, {})

    def follow_attempts(
        self, which: str = "last", *, failed: bool = False, key: str = ""
    ) -> Iterator[tuple[str, m.AttemptRow]]:
        """Go through hosts and attempts of a run as they end, with what they said, until the run is over.

        Args:
            which: its number, ``last``, or the beginning of its id.
            failed: only attempts that failed.
            key: only those of this input, or group of inputs.

        Raises:
            SshmapError: a host did not answer; raised when the run is over on the others.
        """
        run, silent = self._found(which)
        since = dict.fromkeys(run.hosts, 1.0)
        while True:
            # asked first, so that what ends meanwhile is read once more
            is_over = bool(self.job(run.run).ended)
            for host in run.hosts:
                request = m.ListAttempts(run=run.run, failed=failed, key=key, stderr=True, since=since[host])
                for row in attempts_on(self._conversations, host, request):
                    since[host] = max(since[host], row.ended)
                    yield host, row
            if is_over:
                raise_failures(silent, {})
                return
            time.sleep(_FOLLOW_PAUSE)


def attempts_on(conversations: Conversations, host: str, request: m.ListAttempts) -> Iterator[m.AttemptRow]:
    """Go through the attempts of a run on a host; after a break, from behind the one that came last."""
    came = (0, 0)

    def talk(session: Session) -> Iterator[m.AttemptRow]:
        nonlocal came
        for row in _rows(session, request):
            if _place(row) > came:
                came = _place(row)
                yield row

    return conversations.converse(host, talk, progress=lambda: came)


def _place(row: m.AttemptRow) -> tuple[int, int]:
    """Return what of a row grows from each to the next; that of a task that waits comes after those of its attempts."""
    return row.task, row.attempt or _WAITS


def _rows(session: Session, request: m.ListAttempts) -> Iterator[m.AttemptRow]:
    last = (-1, 0)
    for page in session.stream(request, m.Served):
        if isinstance(page, m.AttemptList):
            if not page.rows:
                raise ProtocolError("it speaks of attempts and lists none", host=session.host)
            for row in page.rows:
                if _place(row) <= last:
                    raise ProtocolError("its attempts are out of order", host=session.host)
                last = _place(row)
                yield row
        elif not isinstance(page, m.Served):
            raise ProtocolError(f"{type(page).__name__} came instead of attempts", host=session.host)
