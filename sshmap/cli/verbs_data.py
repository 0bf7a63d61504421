"""cat, ls, rm, where: keys shown, listed and deleted."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sshmap.cli.app import app, ask_before_deleting, settings
from sshmap.cli.completion import offer_keys
from sshmap.cli.escaping import escape
from sshmap.cli.printers import NullPrinter, human_size
from sshmap.client.results import Removal, RemovalFailed
from sshmap.errors import NothingMatched, UsageError
from sshmap.model import parse_prefix, show

Json = Annotated[bool, typer.Option("--json", envvar="SSHMAP_JSON", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", envvar="SSHMAP_YES", help="Do not ask.")]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", envvar="SSHMAP_RECURSIVE", help="All that starts with it.")
]


@app.command()
def ls(
    prefix: Annotated[
        str, typer.Argument(autocompletion=offer_keys, help="sm://bucket/prefix; buckets when left away.")
    ] = "sm://",
    recursive: Recursive = False,
    json: Json = False,
    null: Annotated[
        bool,
        typer.Option("-0", "--null", envvar="SSHMAP_NULL", help="Print names only, as they are, each ended by NUL."),
    ] = False,
) -> None:
    """List keys: one level, or with -r all, with paths below the bucket; unusual characters as backslash escapes."""
    if json and null:
        raise UsageError("both --json and --null are given", hint="use one of them")
    printer = NullPrinter() if null else settings.printer(json=json)
    name = parse_prefix(prefix)
    with settings.cluster() as cluster:
        if not name and not recursive:
            rows = cluster.buckets()
            printer.buckets(rows)
            count = len(rows)
        else:
            below = name.find("/") + 1 if recursive else name.rfind("/") + 1
            count = printer.listing(cluster.ls(prefix, recursive=recursive), below=below)
        if not count:
            raise NothingMatched(f"no key starts with {show(name)}" if name else "there are no keys")


@app.command()
def cat(
    keys: Annotated[
        list[str],
        typer.Argument(autocompletion=offer_keys, metavar="KEY...", help="Keys, directories of keys, quoted globs."),
    ],
) -> None:
    """Write keys' contents to stdout one after the other, byte by byte as they were stored; of a directory or glob in the order of names."""
    with settings.cluster() as cluster:
        for key in keys:
            cluster.cat(key, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@app.command()
def where(
    key: Annotated[str, typer.Argument(autocompletion=offer_keys, help="Key or prefix.")], json: Json = False
) -> None:
    """Show which host each key lies on, as HOST KEY."""
    with settings.cluster() as cluster:
        rows = cluster.where(key)
        if json:
            settings.printer(json=True).table([{"host": row.host, "key": row.name} for row in rows])
        else:
            for row in rows:
                sys.stdout.write(f"{escape(row.host)} {escape(row.name)}\n")


@app.command()
def rm(
    prefix: Annotated[str, typer.Argument(autocompletion=offer_keys, help="Key, or with -r what the keys start with.")],
    recursive: Recursive = False,
    yes: Yes = False,
) -> None:
    """Delete a key, or with -r every key that starts with PREFIX (sm://b/step is b/step1/ and b/step2/ too).

    What jobs made goes without a question, as they can make it again. Where keys that were copied in would go, a terminal
    is asked.
    """
    with settings.cluster() as cluster:
        if recursive and not yes and sys.stdin.isatty():
            ask_before_deleting(cluster.count(prefix), f"that start with {prefix}")
        try:
            result = cluster.rm(prefix, recursive=recursive)
        except RemovalFailed as exc:
            settings.printer().note(_deleted(exc.result))
            raise
        settings.printer().note(_deleted(result))


def _deleted(result: Removal) -> str:
    return f"deleted {result.keys} keys, {human_size(result.size)}"
