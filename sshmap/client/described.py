"""A job as a user describes it, with its options; or as the hosts remember it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

import msgspec

from sshmap.client.attachments import Attachment, attach
from sshmap.client.conversations import Conversations
from sshmap.client.following import JobProgress
from sshmap.client.functions import Bundle, bundle
from sshmap.client.results import raise_failures
from sshmap.client.summaries import RunSummary
from sshmap.errors import Refused, SshmapError, UsageError, is_silent
from sshmap.inventory.ranges import fold
from sshmap.job_checks import check_job
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, Verb, parse_name
from sshmap.protocol import messages as m


class Options(TypedDict, total=False):
    """Options of a job."""

    #: files to stand in every task directory
    shipped: Iterable[Path]
    #: packages of others that a Python function imports, as pip names them, such as ``polars>=1.20``; what a host's own Python
    #: has need not be named
    packages: Iterable[str]
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
    #: hosts that would take part and did not answer
    absent: dict[str, SshmapError] = {}


def described(
    verb: Verb, indir: str, outdir: str, command: str | Callable[..., object] | Bundle, options: Options
) -> Job:
    """Describe a job as a user does.

    Args:
        verb: its shape.
        indir: INDIR as typed.
        outdir: OUTDIR as typed.
        command: shell command, or a Python function, which may be bundled already.
        options: see `Options`.

    Raises:
        UsageError: the job makes no sense.
    """
    maker, attachments = _made_by(verb, command, options)
    spec = JobSpec(
        indir=f"sm://{parse_name(indir)}",
        outdir=f"sm://{parse_name(outdir)}",
        maker=maker,
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


def _made_by(
    verb: Verb, command: str | Callable[..., object] | Bundle, options: Options
) -> tuple[Maker, tuple[Attachment, ...]]:
    """Return what is to be done, and the files that are shipped for it.

    Raises:
        UsageError: a file cannot be read, or a function cannot be sent.
    """
    shipped, packages = [Path(path) for path in options.get("shipped", ())], options.get("packages", ())
    if isinstance(command, str):
        if packages:
            raise UsageError(
                "packages are for Python functions", hint="a shell command takes what its host has, or --with FILE"
            )
        attachments = tuple(attach(shipped))
        return Maker(verb=verb, command=command, shipped=tuple(one.file for one in attachments)), attachments
    function = command if isinstance(command, Bundle) else bundle(command, shipped)
    attachments = tuple(attach(shipped, function))
    maker = Maker(
        verb=verb, command=f"{function.name}()", function=f"{function.file}:{function.name}",
        shipped=tuple(one.file for one in attachments), packages=_packages(packages),
    )  # fmt: skip
    return maker, attachments


def _packages(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return requirements as they stand in a receipt.

    Raises:
        UsageError: one is none.
    """
    if not requirements:
        return ()
    from sshmap.client.packages import checked  # imports what few jobs need

    return checked(requirements)


def again(conversations: Conversations, run: RunSummary) -> tuple[Job, Limits]:
    """Return the job of a run, and what the run was allowed, as all hosts that answer say.

    A host that was away then may know the job by an earlier run of it; what it does not know itself it is not told.

    Raises:
        Refused: they do not agree, or a host does not know the job.
    """
    request = m.GetJob(run=run.run, job=run.job)
    answers, failures = conversations.gather(
        lambda name: conversations.ask(name, lambda session: session.ask(request, m.JobIs))
    )
    absent = {name: error for name, error in failures.items() if is_silent(error)}
    strangers = [name for name, error in failures.items() if isinstance(error, Refused)]
    raise_failures({name: error for name, error in failures.items() if name not in {*absent, *strangers}}, {})
    if strangers:
        raise Refused(f"{fold(strangers)} not told what run {run.number} was to do", hint="type its command again")
    known = {name: answers[name] for name in run.hosts if name in answers}
    if not known:
        raise_failures(failures, {})
    first = next(iter(known.values()))
    if odd := [name for name, answer in answers.items() if not _agrees(answer, first, limits=name in known)]:
        raise Refused(
            f"{fold(odd)} and {next(iter(known))} do not agree on what run {run.number} was to do",
            hint="type its command again",
        )
    check_job(first.job)
    return Job(spec=first.job, hosts=tuple(answers), absent=absent), first.limits


def _agrees(answer: m.JobIs, first: m.JobIs, *, limits: bool) -> bool:
    """Say whether a host says of a job what the first one says; limits belong to the run, which not all hosts know."""
    return answer.job == first.job and (not limits or answer.limits == first.limits)
