"""jobs, attach, wait, cancel, logs, report, top, shell, gc: runs that were submitted before, from here or elsewhere."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sshmap.cli import notice, progress
from sshmap.cli.app import app, settings
from sshmap.cli.completion import offer_keys
from sshmap.cli.escaping import clean, clean_lines
from sshmap.cli.printers import human_size, human_time
from sshmap.cli.verbs_data import Json
from sshmap.client.cluster import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.client.results import raise_failures
from sshmap.client.summaries import RunSummary, find_run
from sshmap.errors import HostsFailed, Interrupted, SshmapError, UsageError
from sshmap.limits import parse_duration
from sshmap.model import AttemptEnd, TaskState
from sshmap.protocol.messages import AttemptRow

Which = Annotated[str, typer.Argument(metavar="JOB", help="Number of a run, 'last', or the beginning of its id.")]
Notify = Annotated[
    str,
    typer.Option(
        "--notify",
        envvar="SSHMAP_NOTIFY",
        metavar="CMD",
        help="Run this here when the run has ended, with its figures in SSHMAP_* variables.",
    ),
]
_JOBLOG = ("Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command")


@app.command()
def jobs(
    which: Annotated[str, typer.Argument(metavar="[JOB]", help="Only this run, with its tasks.")] = "",
    tasks: Annotated[
        bool,
        typer.Option("--tasks", envvar="SSHMAP_TASKS", help="The attempts of JOB, of the newest run if none is named."),
    ] = False,
    joblog: Annotated[
        bool,
        typer.Option("--joblog", envvar="SSHMAP_JOBLOG", help="Print the attempts of JOB as GNU parallel's job log."),
    ] = False,
    json: Json = False,
) -> None:
    """List the runs that the hosts know, newest first, added up over all hosts; or the attempts of one."""
    which = which or ("last" if tasks or joblog else "")
    with settings.cluster() as cluster:
        try:
            runs, failures = cluster.jobs(), {}
        except HostsFailed as exc:
            runs, failures = exc.results["runs"], exc.failures  # type: ignore[assignment]
        if which:
            failures |= _show_attempts(cluster, find_run(runs, which), joblog=joblog, json=json)
        else:
            settings.printer(json=json).table([_run_row(run, exact=json) for run in runs])
    raise_failures(failures, {})


def _show_attempts(cluster: Cluster, run: RunSummary, *, joblog: bool, json: bool) -> dict[str, SshmapError]:
    """Show the attempts of a run; return what went wrong with hosts, once those of the others are shown."""
    failures: dict[str, SshmapError] = {}

    def known() -> Iterator[tuple[str, AttemptRow]]:
        try:
            yield from cluster.attempts(run.run)
        except HostsFailed as exc:
            failures.update(exc.failures)
        except SshmapError as exc:
            failures[exc.host] = exc

    if joblog:
        _write_joblog(known(), run)
    else:
        settings.printer(json=json).table([_attempt_row(host, row, exact=json) for host, row in known()])
    return failures


def _run_row(run: RunSummary, *, exact: bool) -> dict[str, object]:
    took = (run.ended or time.time()) - run.submitted
    row: dict[str, object] = {"number": run.number, "verb": run.verb.value, "state": run.state}
    row |= {"done": run.states.get(TaskState.DONE, 0), "failed": run.states.get(TaskState.FAILED, 0)}
    row |= {"left": run.left, "cancelled": run.states.get(TaskState.CANCELLED, 0), "kept": run.kept}
    if exact:
        row |= {state.value: run.states.get(state, 0) for state in TaskState}
        return row | {"submitted": run.submitted, "ended": run.ended, "bytes": run.size, "from": run.origin, "indir": run.indir,
                      "outdir": run.outdir, "command": run.command, "run": run.run, "job": run.job}  # fmt: skip
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(run.submitted))
    shown = run.command[:60].replace("\n", " ")
    return row | {
        "started": started,
        "took": human_time(took),
        "from": run.origin,
        "in": run.indir,
        "out": run.outdir,
        "command": shown,
    }


def _attempt_row(host: str, row: AttemptRow, *, exact: bool) -> dict[str, object]:
    outcome = row.outcome.value if row.outcome else row.state.value
    shown: dict[str, object] = {
        "host": host,
        "key": row.key,
        "attempt": row.attempt,
        "outcome": outcome,
        "exit": row.exit_code,
    }
    if exact:
        return shown | {
            "task": row.task, "worker": row.slot, "state": row.state.value, "queued": row.queued, "began": row.began, "ended": row.ended,
            "ran": row.ran, "user": row.user, "system": row.system, "peak": row.peak, "received": row.received, "made": row.made,
            "kind": row.kind, "message": row.message,
        }  # fmt: skip
    running = time.time() - row.began if row.outcome is None and row.attempt else 0.0
    return shown | {
        "worker": row.slot, "ran": human_time(row.ran or running), "cpu": human_time(row.user + row.system), "memory": human_size(row.peak),
        "in": human_size(row.received), "out": human_size(row.made),
    }  # fmt: skip


def _write_joblog(attempts: Iterator[tuple[str, AttemptRow]], run: RunSummary) -> None:
    command = clean(run.command.replace("\t", " ").replace("\n", " "))
    sys.stdout.write("\t".join((*_JOBLOG, "Key", "Attempt", "Outcome")) + "\n")
    for number, (host, row) in enumerate(attempts, start=1):
        code, signal = (0, row.exit_code - 128) if row.exit_code > 128 else (row.exit_code, 0)
        code = code or int(row.outcome is AttemptEnd.FAILED and not signal)
        fields = (number, host, f"{row.began:.3f}", f"{row.ran:10.3f}", row.received, row.made, code, signal, command,
                  clean_lines(row.key), row.attempt, row.outcome.value if row.outcome else row.state.value)  # fmt: skip
        sys.stdout.write("\t".join(map(str, fields)) + "\n")


def _follow(which: str, manner: progress.Manner, notify: str, *, json: bool) -> int:
    printer = settings.printer(json=json)
    with settings.cluster() as cluster:
        run = cluster.job(which)
        try:
            with progress.following(
                f"run {run.number}: {run.verb.value} {run.indir}", manner, each=settings.verbose
            ) as report:
                result = cluster.attach(run.run, report)
        except JobFailed as exc:
            printer.job(exc.result, settings.typed(exc.hint))
            notice.give(notify, exc.result, exc)
            raise
        except Interrupted:
            printer.note(f"run {run.number} goes on: sshmap attach {run.number}, or sshmap cancel {run.number}")
            raise
    printer.job(result)
    notice.give(notify, result, None)
    return 0


@app.command()
def attach(which: Which = "last", notify: Notify = "", json: Json = False) -> int:
    """Show how a run goes until it is over, with its exit code; with sshmap -v a line for each host; Ctrl-C ends only the looking."""
    return _follow(which, settings.manner, notify, json=json)


@app.command()
def wait(which: Which = "last", notify: Notify = "", json: Json = False) -> int:
    """Wait until a run is over, and exit with its exit code; Ctrl-C ends only the waiting."""
    return _follow(which, progress.Manner.NONE, notify, json=json)


@app.command()
def cancel(
    which: Which = "last",
    now: Annotated[bool, typer.Option("--now", envvar="SSHMAP_NOW", help="Kill its commands at once.")] = False,
) -> None:
    """Cancel a run on all hosts: no task begins any more, running commands are ended (SIGTERM, SIGKILL after 5 s)."""
    with settings.cluster() as cluster:
        run = cluster.cancel(which, at_once=now)
    what = f"run {run.number}: {run.verb.value} {run.indir} {run.outdir}"
    settings.printer().note(f"over already: {what}" if run.ended else f"cancelled {what}")
    if run.unended:
        settings.printer().note(
            f"note: {run.unended} of its tasks have not ended yet: sshmap jobs {run.number} shows them"
        )


@app.command()
def logs(
    which: Which = "last",
    failed: Annotated[
        bool, typer.Option("--failed", envvar="SSHMAP_FAILED", help="Only attempts that failed.")
    ] = False,
    key: Annotated[
        str, typer.Option("--key", envvar="SSHMAP_KEY", help="Only those of this input, or merged group.")
    ] = "",
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", envvar="SSHMAP_FOLLOW", help="Go on as attempts end, until the run is over."),
    ] = False,
) -> None:
    """Print what the commands of a run said on stderr, each attempt under a line that says what became of it."""
    with settings.cluster() as cluster:
        ended = cluster.follow_attempts if follow else functools.partial(cluster.attempts, stderr=True)
        for host, row in ended(which, failed=failed, key=key):
            if row.stderr or row.message:
                _write_log(host, row)
                sys.stdout.flush()


def _write_log(host: str, row: AttemptRow) -> None:
    outcome = row.outcome.value if row.outcome else row.state.value
    code = f", exit {row.exit_code}" if row.exit_code else ""
    sys.stdout.write(
        clean_lines(f"==> {row.key} on {host}, attempt {row.attempt}: {outcome}{code}, {human_time(row.ran)}") + "\n"
    )
    said = row.stderr.decode("utf-8", "replace") or row.message
    sys.stdout.write(clean_lines(said.rstrip("\n")) + "\n")


@app.command()
def report(
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB]...", help="Numbers of runs, 'last', or the beginnings of their ids."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", envvar="SSHMAP_OUTPUT", metavar="FILE", help="'-' is stdout.")
    ] = Path("report.html"),
) -> None:
    """Write a page about runs, for a browser, in one file: each task by host and worker over time, what was slow, what failed and why."""
    with settings.cluster() as cluster:
        try:
            page, failures = cluster.report(which or ["last"]), {}
        except HostsFailed as exc:
            if "page" not in exc.results:
                raise
            page, failures = exc.results["page"], exc.failures  # type: ignore[assignment]
    from sshmap.client.report import save  # seldom needed

    if str(output) == "-":
        sys.stdout.buffer.write(page.encode())
    else:
        save(page, output)
        settings.printer().note(f"written to {output}")
    raise_failures(failures, {})


@app.command()
def shell(
    key: Annotated[str, typer.Argument(autocompletion=offer_keys, help="sm://bucket/path")],
    command: Annotated[
        str, typer.Option("-c", "--command", envvar="SSHMAP_COMMAND", metavar="CMD", help="Run this instead of bash.")
    ] = "",
    run: Annotated[
        str, typer.Option("--run", envvar="SSHMAP_RUN", metavar="JOB", help="With the files shipped with this run.")
    ] = "",
    failed: Annotated[
        str,
        typer.Option(
            "--failed",
            envvar="SSHMAP_FAILED",
            metavar="JOB",
            help="In the directory as the last failed attempt of this run left it; kept of the newest 20 failed tasks of a host, at most 1 GiB.",
        ),
    ] = "",
) -> int:
    """Open bash where KEY lies, with what a task on it has: an empty directory, its environment, its input as $SSHMAP_FILE."""
    with settings.cluster() as cluster:
        return cluster.shell(
            key, command, run=failed or run, failed=bool(failed), out=sys.stdout.buffer, err=sys.stderr.buffer
        )


@app.command()
def gc(
    older: Annotated[
        str,
        typer.Option("--older", envvar="SSHMAP_OLDER", help="Forget runs that ended so long ago: 3d, 12h, 0s for all."),
    ] = "7d",
    json: Json = False,
) -> None:
    """Forget old runs now, and delete the files that were shipped for them alone; keys, receipts and lineage stay."""
    age = 0.0 if older in ("0", "0s") else parse_duration(older, "--older")
    with settings.cluster() as cluster:
        answers = cluster.forget(age)
    rows = [
        {"host": name, "runs": freed.runs, "attempts": freed.attempts, "files": freed.files, "bytes": freed.size if json else human_size(freed.size)}
        for name, freed in answers.items()
    ]  # fmt: skip
    settings.printer(json=json).table(rows)


@app.command()
def top() -> None:
    """Show the hosts and their running tasks on the whole terminal; keys cancel a run or show its log."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal", hint="sshmap jobs prints a table")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError("top needs a terminal that can move its cursor", hint="sshmap jobs prints a table")
    from sshmap.cli.top import show  # for systems that have terminals

    with settings.cluster() as cluster:
        show(cluster)
