"""eval, map, fanout, merge, retry: commands run where the keys lie.

The three verbs have the same parameters, which are listed once: typer reads them from the signature that `_command` makes.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from sshmap.cli import notice, progress
from sshmap.cli.app import app, settings
from sshmap.cli.completion import offer_keys
from sshmap.cli.printers import human_size, human_time
from sshmap.cli.verbs_data import Json
from sshmap.client.attachments import unshipped
from sshmap.client.described import Options
from sshmap.client.job_results import HostPlan, JobFailed, JobResult
from sshmap.errors import UsageError
from sshmap.limits import Limits, check_jobs, parse_halt, parse_size, parse_timeout
from sshmap.model import Verb

Command = Annotated[str, typer.Argument(metavar="CMD", help="Shell command, in quotes.")]


def _option(name: str, help_text: str, *more: str) -> Any:  # noqa: ANN401  # what typer gives
    return typer.Option(f"--{name}", *more, envvar=f"SSHMAP_{name.upper().replace('-', '_')}", help=help_text)


#: by name: type and default of the parameters of the three verbs, and of `retry` those that limit a run
_PLACES: dict[str, tuple[Any, Any, Any]] = {
    "indir": (
        str, Parameter.empty,
        typer.Argument(autocompletion=offer_keys, metavar="INDIR", help="sm://bucket/dir/, or a quoted glob like 'sm://in/*/*_5'."),
    ),
    "outdir": (str, Parameter.empty, typer.Argument(autocompletion=offer_keys, metavar="OUTDIR", help="sm://bucket/dir/")),
    "command": (str, Parameter.empty, typer.Argument(metavar="CMD", help="Shell command, in quotes.")),
}  # fmt: skip
_CHOICES: dict[str, tuple[Any, Any, Any]] = {
    "shipped": (list[Path] | None, None, _option("with", "Ship a file with the job; repeatable.")),
    "replace": (bool, False, _option("replace", "Swap outputs that other work made.")),
    "keep_done": (bool, False, _option("keep-done", "Keep what another command made of the same inputs.")),
    "prune": (bool, False, _option("prune", "Delete outputs of the same work whose input is gone.")),
    "partial": (bool, False, _option("partial", "Go on where outputs of a fan-out are missing in INDIR.")),
}
_HALT = (
    "Begin no more tasks (now: end running ones too) after failures: soon,fail=3 or now,fail=10%. "
    "Counted on all hosts together; on each host by itself while no client follows the run."
)
_LIMITS: dict[str, tuple[Any, Any, Any]] = {
    "detach": (bool, False, _option("detach", "Return as soon as the job is queued on all hosts.")),
    "jobs": (str, "", _option("jobs", "Most tasks at once on each host: 4, 50% of its cores, or +2 beyond them; never more than its workers.", "-j")),
    "retries": (int, 0, _option("retries", "Run a failed command so many times again, after pauses that grow.")),
    "timeout": (str, "", _option("timeout", "End a command that takes longer: 10m, or 300% of the median; it has failed (exit 7).")),
    "halt": (str, "", _option("halt", _HALT)),
    "memfree": (str, "", _option("memfree", "Begin a task only where so much memory is available: 2G.")),
    "limit_rate": (str, "", _option("limit-rate", "Most bytes a second that fan-out files leave each host with: 50M.")),
    "nice": (int, 0, _option("nice", "Nice value of the commands, 0 to 19.")),
    "notify_host": (str, "", _option("notify-host", "Run this on the first host, once, when all hosts have ended the run; also while no client follows.")),
    "notify": (str, "", _option("notify", "Run this here when the run has ended, with its figures in SSHMAP_* variables.")),
}  # fmt: skip
_LOOKS: dict[str, tuple[Any, Any, Any]] = {
    "dry_run": (bool, False, _option("dry-run", "Say what each host would do; change nothing.", "-n")),
    "explain": (bool, False, _option("explain", "Say why each task would be run, kept or refused; change nothing.")),
    "sample": (int, 0, _option("sample", "Run only so many tasks on each host; their results are kept.")),
}
_JSON: dict[str, tuple[Any, Any, Any]] = {"json": (Json, False, None)}


def _limits(given: dict[str, Any]) -> Limits:
    """Take the options that limit a run out of those given.

    Raises:
        UsageError: one makes no sense.
    """
    jobs, timeout, halt, memfree, rate = (
        given.pop(name) for name in ("jobs", "timeout", "halt", "memfree", "limit_rate")
    )
    fields: dict[str, Any] = {name: given.pop(name) for name in ("retries", "nice")}
    for name, value, most in (("retries", fields["retries"], 1_000_000), ("nice", fields["nice"], 19)):
        if not 0 <= value <= most:
            raise UsageError(f"--{name} {value}: not a number from 0 to {most}")
    fields |= {"jobs": check_jobs(jobs)} if jobs else {}
    fields |= parse_timeout(timeout) if timeout else {}
    fields |= parse_halt(halt) if halt else {}
    fields |= {"memory_free": parse_size(memfree, "--memfree")} if memfree else {}
    fields |= {"rate": parse_size(rate, "--limit-rate")} if rate else {}
    return Limits(**fields)


def _explain(plans: dict[str, HostPlan], *, json: bool, each: bool) -> None:
    """Show what hosts would do about a job: host by host, and why, or task by task."""
    printer = settings.printer(json=json)
    if each:
        rows = (
            {"host": name, "does": row.decision, "output": row.output, "why": row.why}
            for name, plan in plans.items()
            for row in plan.tasks
        )
        printer.table(list(rows))
    else:
        size, span = ((lambda number: number), (lambda number: number)) if json else (human_size, human_time)
        printer.table([
            {"host": name, "run": plan.run, "keep": plan.keep, "refuse": plan.refuse, "bytes in": size(plan.size),
             "free": size(plan.free), "takes": span(plan.seconds) if plan.seconds else "?"}
            for name, plan in plans.items()
        ])  # fmt: skip
    folded: dict[tuple[str, str], tuple[int, str]] = {}
    for plan in plans.values():
        for reason, (count, first) in plan.why.items():
            folded[reason] = (folded.get(reason, (0, first))[0] + count, folded.get(reason, (0, first))[1])
    for (does, why), (count, first) in sorted(folded.items(), key=lambda item: -item[1][0]):
        printer.note(f"{does} {count}: {why} (first: {first})")


def _submit(
    verb: Verb,
    indir: str,
    outdir: str,
    command: str,
    *,
    json: bool,
    notify: str,
    dry_run: bool,
    explain: bool,
    **given: Any,  # noqa: ANN401  # as typed
) -> int:
    printer = settings.printer(json=json)
    if given["sample"] < 0:
        raise UsageError(f"--sample {given['sample']}: not a number of tasks")
    options = cast("Options", {**given, "limits": _limits(given), "shipped": given["shipped"] or ()})
    for name in unshipped(command, options["shipped"]):
        printer.note(f"note: the command names {name!r}, which lies here; ship it with --with, so that tasks find it")
    with settings.cluster() as cluster:
        if dry_run or explain:
            _explain(cluster.explain(verb, indir, outdir, command, **options), json=json, each=explain)
            return 0
        return run_job(
            f"{verb.value} {indir}",
            options,
            json=json,
            notify=notify,
            submit=lambda: cluster.submit(verb, indir, outdir, command, **options),
        )


def run_job(title: str, options: Options, *, json: bool, notify: str, submit: Callable[[], JobResult]) -> int:
    """Submit a job, show how it goes and how it has ended.

    Raises:
        JobFailed: it is not complete.
    """
    printer = settings.printer(json=json)
    with progress.following(title, settings.manner, each=settings.verbose) as report:
        options["report"], options["note"] = report, printer.note
        try:
            result = submit()
        except JobFailed as exc:
            failed: JobFailed | None = exc
            result = exc.result
        else:
            failed = None
    if options.get("detach"):
        printer.detached(result)
        if not failed:
            return 0
    printer.job(result, settings.typed(failed.hint) if failed else "")
    notice.give(notify, result, failed)
    if failed:
        raise failed
    return 0


def _command(call: Callable[..., int], doc: str, *groups: dict[str, tuple[Any, Any, Any]]) -> Callable[..., int]:
    """Return a function that typer can read parameters from, and that calls another one with all it is given."""

    def command(**given: Any) -> int:  # noqa: ANN401  # as typed
        return call(**given)

    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option] if option else kind)
        for group in groups
        for name, (kind, default, option) in group.items()
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = doc
    return command


_FEW = {name: row for name, row in _CHOICES.items() if name != "partial"}
_DOCS = {
    Verb.MAP: "Run CMD on each key of INDIR: the key on stdin, its stdout becomes the key of the same name in OUTDIR.",
    Verb.FANOUT: "Run CMD on each key of INDIR: the files it writes and names on stdout are placed around the cluster by their names.",
    Verb.MERGE: "Run CMD on each group of equally named keys of INDIR: their paths on stdin, its stdout becomes one key in OUTDIR.",
}
for _verb, _synonym in ((Verb.MAP, ""), (Verb.FANOUT, "map-to-n"), (Verb.MERGE, "map-from-n")):
    _choices = _CHOICES if _verb is Verb.MERGE else _FEW
    _run = _command(functools.partial(_submit, _verb), _DOCS[_verb], _PLACES, _choices, _LOOKS, _LIMITS, _JSON)
    app.command(_verb.value)(_run)
    if _synonym:
        app.command(_synonym, hidden=True, help=f"The same as {_verb.value}.")(_run)


@app.command("eval")
def evaluate(
    key: Annotated[str, typer.Argument(autocompletion=offer_keys, help="sm://bucket/path")], command: Command
) -> int:
    """Run CMD with a key on its stdin, where the key lies; its output and exit code are passed on."""
    if not command.strip():
        raise UsageError("the command is empty", hint="give the shell command as the last argument, in quotes")
    with settings.cluster() as cluster:
        return cluster.eval(key, command, sys.stdout.buffer, sys.stderr.buffer)


def _retry(which: str, *, json: bool, notify: str, **given: Any) -> int:  # noqa: ANN401  # as typed
    with settings.cluster() as cluster:
        limits = _limits(given)
        options = cast("Options", {**given, **({"limits": limits} if limits != Limits() else {})})
        run = cluster.job(which)
        return run_job(
            f"{run.verb.value} {run.indir}",
            options,
            json=json,
            notify=notify,
            submit=lambda: cluster.retry(run.run, **options),
        )


_WHICH: dict[str, tuple[Any, Any, Any]] = {
    "which": (str, "last", typer.Argument(metavar="JOB", help="Number of a run, 'last', or the beginning of its id."))
}
_RETRY = "Run again what failed or is missing of a run, with the limits it had unless others are given."
app.command("retry")(_command(_retry, _RETRY, _WHICH, _LIMITS, _JSON))
