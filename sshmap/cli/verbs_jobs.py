"""eval, map, fanout, merge, jobs: commands run where the keys lie."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Unpack

import typer

from sshmap.cli import progress
from sshmap.cli.app import app, settings
from sshmap.cli.completion import offer_keys
from sshmap.cli.verbs_data import Json
from sshmap.client.attachments import unshipped
from sshmap.client.jobs import Options
from sshmap.client.results import JobFailed, raise_failures
from sshmap.errors import UsageError
from sshmap.model import Verb

Indir = Annotated[
    str,
    typer.Argument(
        autocompletion=offer_keys, metavar="INDIR", help="sm://bucket/dir/, or a quoted glob like 'sm://in/*/*_5'."
    ),
]
Outdir = Annotated[str, typer.Argument(autocompletion=offer_keys, metavar="OUTDIR", help="sm://bucket/dir/")]
Command = Annotated[str, typer.Argument(metavar="CMD", help="Shell command, in quotes.")]
With = Annotated[
    list[Path] | None, typer.Option("--with", envvar="SSHMAP_WITH", help="Ship a file with the job; repeatable.")
]
Replace = Annotated[bool, typer.Option("--replace", envvar="SSHMAP_REPLACE", help="Swap outputs that other work made.")]

KeepDone = Annotated[
    bool,
    typer.Option("--keep-done", envvar="SSHMAP_KEEP_DONE", help="Keep what another command made of the same inputs."),
]

Prune = Annotated[
    bool, typer.Option("--prune", envvar="SSHMAP_PRUNE", help="Delete outputs of the same work whose input is gone.")
]


def _submit(verb: Verb, indir: str, outdir: str, command: str, *, json: bool, **options: Unpack[Options]) -> int:
    printer = settings.printer(json=json)
    for name in unshipped(command, options.get("shipped", ())):
        printer.note(f"note: the command names {name!r}, which lies here; ship it with --with, so that tasks find it")
    with (
        settings.cluster() as cluster,
        progress.following(f"{verb.value} {indir}", settings.manner) as report,
    ):
        options["report"] = report
        try:
            result = cluster.submit(verb, indir, outdir, command, **options)
        except JobFailed as exc:
            failed: JobFailed | None = exc
            result = exc.result
        else:
            failed = None
    printer.job(result)
    if failed:
        raise failed
    return 0


@app.command("map")
def map_keys(
    indir: Indir,
    outdir: Outdir,
    command: Command,
    *,
    shipped: With = None,
    replace: Replace = False,
    keep_done: KeepDone = False,
    prune: Prune = False,
    json: Json = False,
) -> int:
    """Run CMD on each key of INDIR: the key on stdin, its stdout becomes the key of the same name in OUTDIR."""
    return _submit(
        Verb.MAP,
        indir,
        outdir,
        command,
        shipped=shipped or (),
        replace=replace,
        keep_done=keep_done,
        prune=prune,
        json=json,
    )


@app.command()
def fanout(
    indir: Indir,
    outdir: Outdir,
    command: Command,
    *,
    shipped: With = None,
    replace: Replace = False,
    keep_done: KeepDone = False,
    prune: Prune = False,
    json: Json = False,
) -> int:
    """Run CMD on each key of INDIR: the files it writes and names on stdout are placed around the cluster by their names."""
    return _submit(
        Verb.FANOUT,
        indir,
        outdir,
        command,
        shipped=shipped or (),
        replace=replace,
        keep_done=keep_done,
        prune=prune,
        json=json,
    )


@app.command()
def merge(
    indir: Indir,
    outdir: Outdir,
    command: Command,
    *,
    shipped: With = None,
    replace: Replace = False,
    keep_done: KeepDone = False,
    prune: Prune = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", envvar="SSHMAP_PARTIAL", help="Go on where outputs of a fan-out are missing in INDIR."
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Run CMD on each group of equally named keys of INDIR: their paths on stdin, its stdout becomes one key in OUTDIR."""
    return _submit(
        Verb.MERGE,
        indir,
        outdir,
        command,
        shipped=shipped or (),
        replace=replace,
        keep_done=keep_done,
        prune=prune,
        partial=partial,
        json=json,
    )


app.command("map-to-n", hidden=True, help="The same as fanout.")(fanout)
app.command("map-from-n", hidden=True, help="The same as merge.")(merge)


@app.command("eval")
def evaluate(
    key: Annotated[str, typer.Argument(autocompletion=offer_keys, help="sm://bucket/path")], command: Command
) -> int:
    """Run CMD with a key on its stdin, where the key lies; its output and exit code are passed on."""
    if not command.strip():
        raise UsageError("the command is empty", hint="give the shell command as the last argument, in quotes")
    with settings.cluster() as cluster:
        return cluster.eval(key, command, sys.stdout.buffer, sys.stderr.buffer)


@app.command()
def jobs(json: Json = False) -> None:
    """List the jobs the hosts know, newest first, added up over all hosts."""
    with settings.cluster() as cluster:
        answers, failures = cluster.jobs()
    totals: dict[str, dict[str, object]] = {}
    for rows in answers.values():
        for row in rows:
            total = totals.setdefault(
                row.job,
                {"job": row.job, "verb": row.verb, "submitted": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.submitted)),
                 **dict.fromkeys(("queued", "running", "sending", "done", "failed", "kept"), 0),
                 "indir": row.indir, "outdir": row.outdir, "command": row.command if json else row.command[:60].replace("\n", " ")},
            )  # fmt: skip
            for state, count in [*((state.value, count) for state, count in row.states.items()), ("kept", row.kept)]:
                total[state] = int(str(total[state])) + count
    settings.printer(json=json).table(sorted(totals.values(), key=lambda total: str(total["submitted"]), reverse=True))
    raise_failures(failures, {})
