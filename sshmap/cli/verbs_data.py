"""cp, ls, rm, cat, where: keys in, out, listed and deleted."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sshmap.cli import progress
from sshmap.cli.app import app, ask, settings
from sshmap.cli.escaping import escape
from sshmap.cli.printers import NullPrinter, human_size
from sshmap.client.cluster import Cluster
from sshmap.client.results import Transfer, TransferFailed
from sshmap.errors import NothingMatched, UsageError
from sshmap.model import base_name, is_remote, parse_name, show

Json = Annotated[bool, typer.Option("--json", envvar="SSHMAP_JSON", help="Print JSON.")]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", envvar="SSHMAP_RECURSIVE", help="All that starts with it.")
]


@app.command()
def ls(
    prefix: Annotated[str, typer.Argument(help="sm://bucket/prefix; buckets when left away.")] = "sm://",
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
    with settings.cluster() as cluster:
        name = parse_name(prefix)
        below = name.find("/") + 1 if recursive else name.rfind("/") + 1
        count = printer.listing(cluster.ls(prefix, recursive=recursive), below=below if name else 0)
        if not count:
            raise NothingMatched(f"no key starts with {prefix}")


@app.command()
def cat(key: Annotated[str, typer.Argument(help="sm://bucket/path")]) -> None:
    """Write a key's content to stdout, byte by byte as it was stored."""
    with settings.cluster() as cluster:
        cluster.cat(key, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@app.command()
def where(key: Annotated[str, typer.Argument(help="Key or prefix.")], json: Json = False) -> None:
    """Show which host each key lies on, as HOST KEY."""
    with settings.cluster() as cluster:
        rows = cluster.where(key)
        if json:
            settings.printer(json=True).table([{"host": row.host, "key": show(row.name)} for row in rows])
        else:
            for row in rows:
                sys.stdout.write(f"{escape(row.host)} {escape(show(row.name))}\n")


@app.command()
def rm(
    prefix: Annotated[str, typer.Argument(help="Key, or with -r what the keys start with.")],
    recursive: Recursive = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", envvar="SSHMAP_YES", help="Do not ask.")] = False,
) -> None:
    """Delete a key, or with -r every key that starts with PREFIX (sm://step is step1/ and step2/ too)."""
    with settings.cluster() as cluster:
        if recursive and not yes and sys.stdin.isatty():
            count, size = cluster.rm(prefix, recursive=True, counting=True)
            ask(f"delete {count} keys of {human_size(size)} that start with {prefix}?")
        count, size = cluster.rm(prefix, recursive=recursive)
        settings.printer().note(f"deleted {count} keys, {human_size(size)}")


@app.command()
def cp(
    source: Annotated[str, typer.Argument(metavar="SRC", help="File, directory, '-' or key.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Key, file, directory or '-'.")],
    recursive: Recursive = False,
    json: Json = False,
) -> None:
    """Copy files in or keys out; one of SRC and DST is a key."""
    if is_remote(source) == is_remote(target):
        which = "both are keys" if is_remote(source) else "neither is a key"
        raise UsageError(f"cp {source} {target}: {which}", hint="one of them is written sm://bucket/path")
    began = time.monotonic()
    with settings.cluster() as cluster:
        copy = _copy_in if is_remote(target) else _copy_out
        try:
            transfer = copy(cluster, source, target, recursive=recursive)
        except TransferFailed as exc:
            settings.printer(json=json).transfer(exc.result, time.monotonic() - began)
            raise
    if recursive or (json and target != "-"):
        settings.printer(json=json).transfer(transfer, time.monotonic() - began)
    elif transfer.repaired:
        settings.printer().note(f"note: {target}: its file on the host was missing or damaged, and is repaired")


def _copy_in(cluster: Cluster, source: str, target: str, *, recursive: bool) -> Transfer:
    if recursive:
        if source == "-":
            raise UsageError("cp -r - copies nothing: stdin is one stream", hint="leave -r away")
        with progress.counting(f"cp {source}", None, shown=progress.is_shown(quiet=settings.quiet)) as report:
            return cluster.put_tree(Path(source), target if target.endswith("/") else f"{target}/", report)
    if not parse_name(target):
        raise UsageError(f"{target} names no bucket", hint=f"sshmap cp {source} sm://bucket/")
    if not source:
        raise UsageError("SRC is empty")
    directory = target.endswith("/") or "/" not in parse_name(target)
    if source == "-":
        if directory:
            raise UsageError(
                f"stdin needs a key name, {target} is a directory", hint=f"sshmap cp - {target.rstrip('/')}/name"
            )
        return cluster.put(sys.stdin.buffer, target)
    return cluster.put(Path(source), f"{target.rstrip('/')}/{Path(source).name}" if directory else target)


def _copy_out(cluster: Cluster, source: str, target: str, *, recursive: bool) -> Transfer:
    if recursive:
        return _copy_tree_out(cluster, source, target)
    name = parse_name(source)
    if name.endswith("/") or "/" not in name:
        raise UsageError(f"{source} is a directory", hint=f"sshmap cp -r {source} {target}")
    if target == "-":
        size = cluster.cat(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        inside = target.endswith("/") or Path(target).is_dir()
        size = cluster.get_file(source, Path(target) / base_name(name) if inside else Path(target))
    return Transfer(fresh=1, size=size)


def _copy_tree_out(cluster: Cluster, source: str, target: str) -> Transfer:
    """Copy all keys below a directory, into a directory of its name unless ``source`` ends in a slash."""
    if target == "-":
        raise UsageError("cp -r cannot write to stdout", hint="give a directory")
    name = parse_name(source)
    inside = name.endswith("/") or not name
    with progress.counting(f"cp {source}", None, shown=progress.is_shown(quiet=settings.quiet)) as report:
        if inside:
            return cluster.get_tree(source, Path(target), report)
        return cluster.get_tree(f"{source}/", Path(target) / base_name(name), report)
