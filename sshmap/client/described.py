"""A job as a user describes it, with its options; or as the hosts remember it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

import msgspec

from sshmap.client.attachments import Attachment, attach
from sshmap.client.conversations import Conversations
from sshmap.client.following import JobProgress
from sshmap.client.results import raise_failures
from sshmap.client.runs import RunSummary
from sshmap.errors import Refused, UsageError
from sshmap.inventory.ranges import fold
from sshmap.job_checks import check_job
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, Verb, parse_name
from sshmap.protocol import messages as m


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
    #: what the run is allowed
    limits: Limits
    #: run only so many tasks on each host, and keep their results
    sample: int
    #: a command that the first host runs, once, when the run is over on all hosts
    notify_host: str
    #: return as soon as all hosts have the tasks queued, and follow nothing
    detach: bool
    #: called with the progress of the job, whenever that changes
    report: Callable[[JobProgress], None]
    #: called with a line that the user should see while the job runs
    note: Callable[[str], None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job, ready to be submitted."""

    spec: JobSpec
    #: its shipped files, as far as they lie here
    attachments: tuple[Attachment, ...] = ()
    #: the hosts that take part; all if None
    hosts: tuple[str, ...] | None = None


def described(verb: Verb, indir: str, outdir: str, command: str, options: Options) -> Job:
    """Describe a job as a user does.

    Args:
        verb: its shape.
        indir: INDIR as typed.
        outdir: OUTDIR as typed.
        command: shell command.
        options: see `Options`.

    Raises:
        UsageError: the job makes no sense.
    """
    attachments = tuple(attach(options.get("shipped", ())))
    spec = JobSpec(
        indir=f"sm://{parse_name(indir)}",
        outdir=f"sm://{parse_name(outdir)}",
        maker=Maker(verb=verb, command=command, shipped=tuple(attachment.file for attachment in attachments)),
        replace=options.get("replace", False),
        partial=options.get("partial", False),
        keep_done=options.get("keep_done", False),
    )
    check_job(spec)
    if options.get("detach") and (options.get("prune") or (spec.replace and verb is Verb.FANOUT)):
        raise UsageError(
            "a detached job cannot delete what is left over, as --prune and a fan-out's --replace do",
            hint="leave --detach away",
        )
    return Job(spec=spec, attachments=attachments)


def again(conversations: Conversations, run: RunSummary) -> tuple[Job, Limits]:
    """Return the job of a run, and what the run was allowed, as all hosts that know it say.

    Raises:
        Refused: they do not agree.
    """
    answers, failures = conversations.gather(
        lambda name: conversations.ask(name, lambda session: session.ask(m.GetJob(run=run.run), m.JobIs)), run.hosts
    )
    raise_failures(failures, {})
    first = next(iter(answers.values()))
    if odd := [name for name, answer in answers.items() if answer != first]:
        raise Refused(
            f"{fold(odd)} and {next(iter(answers))} do not agree on what run {run.number} was to do",
            hint="type its command again",
        )
    check_job(first.job)
    return Job(spec=first.job, hosts=tuple(answers)), first.limits
