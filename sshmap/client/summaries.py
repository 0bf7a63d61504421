"""The runs that the hosts know, each added up over all of them; and which run is meant by what is typed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

import msgspec

from sshmap.client.conversations import Conversations
from sshmap.errors import NothingMatched, SshmapError, UsageError
from sshmap.model import Ending, TaskState, Verb
from sshmap.protocol import messages as m


class RunSummary(msgspec.Struct, kw_only=True):
    """A run on all hosts that know it."""

    run: str
    #: what people call it
    number: int
    job: str
    verb: Verb
    indir: str
    outdir: str
    #: its first 500 characters
    command: str
    #: seconds since 1970
    submitted: int
    #: 0 while it is not over
    ended: int
    origin: str
    ending: Ending | None
    #: tasks by state, on all hosts
    states: dict[TaskState, int]
    kept: int
    #: bytes made
    size: int
    #: what each host knows of it
    hosts: dict[str, m.JobRow]
    #: hosts that it was submitted to and that do not know it, as they did not answer then
    left_out: tuple[str, ...] = ()
    #: tasks that had not ended yet when it was cancelled
    unended: int = 0

    @property
    def state(self) -> str:
        """In a word: running, done, failed, cancelled, halted, or incomplete where a host was left out."""
        if not self.ended:
            return "running"
        if self.ending:
            return self.ending.value
        if self.states.get(TaskState.FAILED):
            return "failed"
        return "incomplete" if self.left_out else "done"

    @property
    def left(self) -> int:
        """Tasks that have not ended."""
        return sum(self.states.get(state, 0) for state in (TaskState.QUEUED, TaskState.RUNNING, TaskState.SENDING))


def list_runs(conversations: Conversations) -> tuple[list[RunSummary], dict[str, SshmapError]]:
    """Return the runs that the hosts know, newest first, and hosts that did not answer."""
    answers, failures = conversations.gather(
        lambda host: conversations.ask(host, lambda session: session.ask(m.Jobs(), m.JobList))
    )
    rows: dict[str, dict[str, m.JobRow]] = {}
    for host, answer in answers.items():
        for row in answer.jobs:
            rows.setdefault(row.run, {})[host] = row
    found = [_summary(run, hosts, answers) for run, hosts in rows.items()]
    return sorted(found, key=lambda run: (run.number, run.submitted), reverse=True), failures


def _summary(run: str, hosts: dict[str, m.JobRow], answered: Container[str]) -> RunSummary:
    first = next(iter(hosts.values()))
    states: Counter[TaskState] = Counter()
    for row in hosts.values():
        states.update(row.states)
    ended = [row.ended for row in hosts.values()]
    return RunSummary(
        run=run, number=max(row.number for row in hosts.values()), job=first.job, verb=first.verb, indir=first.indir,
        outdir=first.outdir, command=first.command, submitted=min(row.submitted for row in hosts.values()),
        ended=max(ended) if all(ended) else 0, origin=first.origin, hosts=hosts, left_out=_left_out(hosts, answered),
        ending=next((row.ending for row in hosts.values() if row.ending), None), states=dict(states),
        kept=sum(row.kept for row in hosts.values()), size=sum(row.size for row in hosts.values()),
    )  # fmt: skip


def _left_out(hosts: dict[str, m.JobRow], answered: Container[str]) -> tuple[str, ...]:
    """Return the hosts that a run was submitted to, that answer now, and do not know it."""
    wanted = dict.fromkeys(name for row in hosts.values() for name in row.wanted)
    return tuple(name for name in wanted if name in answered and name not in hosts)


def find_run(runs: list[RunSummary], text: str) -> RunSummary:
    """Return the run that is meant by its number, ``last``, or the beginning of its id.

    Args:
        runs: all runs, newest first.
        text: as typed.

    Raises:
        NothingMatched: there is none.
        UsageError: several are meant.
    """
    if text == "last":
        found = runs[:1]
    else:
        found = [run for run in runs if text == str(run.number)]
        found = found or [run for run in runs if text and run.run.startswith(text)]
    if not found:
        raise NothingMatched(f"no run {text!r} is known", hint="sshmap jobs shows all")
    if len(found) > 1:
        named = ", ".join(f"{run.run} ({run.verb.value} {run.indir} {run.outdir})" for run in found[:5])
        raise UsageError(f"{text} may mean {named}", hint="name it by its id")
    return found[0]
