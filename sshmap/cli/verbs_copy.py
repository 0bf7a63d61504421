"""cp and sync: files in, keys out, and making two trees alike."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Unpack

import typer

from sshmap.cli import progress
from sshmap.cli.app import app, ask_before_deleting, settings
from sshmap.cli.completion import offer_sources
from sshmap.cli.verbs_data import Json, Recursive, Yes
from sshmap.client.cluster import Cluster
from sshmap.client.results import Removal, Transfer, TransferFailed
from sshmap.client.sources import measure
from sshmap.client.syncing import CopyOptions, SyncOptions
from sshmap.errors import UsageError
from sshmap.model import base_name, is_remote, parse_directory, parse_name, typed

Include = Annotated[
    list[str] | None,
    typer.Option("--include", envvar="SSHMAP_INCLUDE", help="Only paths that match this glob; repeatable."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", envvar="SSHMAP_EXCLUDE", help="No paths that match this glob; repeatable."),
]
Number = Annotated[
    bool,
    typer.Option(
        "--number", envvar="SSHMAP_NUMBER", help="Deal keys out to the hosts in turn, by numbers before their names."
    ),
]


@app.command()
def cp(
    names: Annotated[
        list[str],
        typer.Argument(autocompletion=offer_sources, metavar="SRC... DST", help="Files, directories, '-' or a key."),
    ],
    *,
    recursive: Recursive = False,
    include: Include = None,
    exclude: Exclude = None,
    replace: Annotated[
        bool, typer.Option("--replace", envvar="SSHMAP_REPLACE", help="Swap keys that hold other content.")
    ] = False,
    number: Number = False,
    json: Json = False,
) -> None:
    """Copy files in or keys out; DST or SRC is a key.

    With -r, what is below SRC comes to lie below DST; only where a directory of keys is copied to '.', the last part of
    its name is kept. A slash at the end changes nothing. To '-', contents are written one after the other.
    """
    *given, target = names
    options = CopyOptions(include=include or (), exclude=exclude or (), replace=replace, number=number)
    _check(given, target, recursive=recursive, tree_options=bool(include or exclude or number))
    with settings.cluster() as cluster, _shown(json=json, always=recursive or len(given) > 1, target=target) as show:
        if not is_remote(target):
            show(_copy_out(cluster, given[0], target, recursive=recursive, **options))
        elif recursive or len(given) > 1:
            transfer = _copy_all_in(cluster, given, target, recursive=recursive, **options)
            show(transfer)
            if not number:
                _note_uneven(transfer, cluster.inventory.shares())
        else:
            show(_copy_one_in(cluster, given[0], target, replace=replace))


@app.command()
def sync(
    source: Annotated[
        str, typer.Argument(autocompletion=offer_sources, metavar="SRC", help="Directory of files or of keys.")
    ],
    target: Annotated[
        str, typer.Argument(autocompletion=offer_sources, metavar="DST", help="Directory of keys or of files.")
    ],
    *,
    delete: Annotated[
        bool, typer.Option("--delete", envvar="SSHMAP_DELETE", help="Delete what SRC does not have.")
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    number: Number = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Make what lies below DST what lies below SRC: only what differs by digest travels; one of them is a directory of keys.

    A key that differs is swapped. --delete asks on a terminal as rm -r does.
    """
    asks = delete and not yes and sys.stdin.isatty()

    def confirm(surplus: Removal) -> None:
        if asks:
            ask_before_deleting(surplus, f"that {source} does not have")

    options = SyncOptions(include=include or (), exclude=exclude or (), number=number, delete=delete, confirm=confirm)
    # a question has to stand still
    how = progress.Manner.NONE if asks else settings.manner
    with settings.cluster() as cluster, _shown(json=json, always=True, target=target) as show:
        with progress.counting(f"sync {source}", how) as report:
            options["report"] = report
            transfer = cluster.sync(source, target, **options)
        show(transfer)


def _check(given: list[str], target: str, *, recursive: bool, tree_options: bool) -> None:
    if not given:
        raise UsageError(
            f"cp {target}: DST is missing", hint="sshmap cp SRC DST; one of them is written sm://bucket/path"
        )
    if "" in (*given, target):
        raise UsageError("SRC or DST is empty", hint="name the file or directory that is meant, as '.' for this one")
    _check_sides(given, target)
    if tree_options and not recursive:
        raise UsageError("--include, --exclude and --number choose from a tree", hint="add -r")


def _check_sides(given: list[str], target: str) -> None:
    """Check that one of the two sides names keys, and that only files go several at a time.

    Raises:
        UsageError: they do not.
    """
    keys = [name for name in given if is_remote(name)]
    if is_remote(target) and keys:
        raise UsageError(f"cp {keys[0]} {target}: both are keys", hint="one of them is a file or directory here")
    if is_remote(target):
        return
    if not keys:
        raise UsageError(f"cp {given[0]} {target}: neither is a key", hint="one of them is written sm://bucket/path")
    if len(given) > 1:
        raise UsageError("cp copies one key or directory of keys out at a time", hint="sshmap cat takes several keys")


def _note_uneven(transfer: Transfer, shares: dict[str, float]) -> None:
    """Say how few files that fell unevenly can be dealt out."""
    if fullest := transfer.uneven(shares):
        settings.printer().note(
            f"note: {fullest} has over twice its share of these few files; --number deals them out to the hosts in turn"
        )


def _chooses(options: CopyOptions) -> bool:
    """Say whether only a part of the tree may take part, so that its total is not that of the copy."""
    return bool(options.get("include") or options.get("exclude"))


@contextlib.contextmanager
def _shown(*, json: bool, always: bool, target: str) -> Iterator[Callable[[Transfer], None]]:
    """Show how a copy ended, also one that failed; a copy of one key says nothing unless asked to.

    Args:
        json: as JSON.
        always: also if nothing went wrong.
        target: what was copied to.
    """
    began = time.monotonic()

    def show(transfer: Transfer) -> None:
        printer = settings.printer(json=json)
        if always or (json and target != "-"):
            printer.transfer(transfer, time.monotonic() - began)
        elif transfer.repaired:
            printer.note(f"note: {target}: its file on the host was missing or damaged, and is repaired")

    try:
        yield show
    except TransferFailed as exc:
        settings.printer(json=json).transfer(exc.result, time.monotonic() - began)
        raise


def _copy_all_in(
    cluster: Cluster, given: list[str], target: str, *, recursive: bool, **options: Unpack[CopyOptions]
) -> Transfer:
    if "-" in given:
        raise UsageError("'-' cannot be one of several sources: stdin is one stream", hint="copy it by itself")
    paths = [Path(name) for name in given]
    if not recursive:
        for path in paths:
            if path.is_dir():
                raise UsageError(f"{path} is a directory", hint=typed("sshmap", "cp", "-r", *given, target))
        if not target.endswith("/") and "/" in parse_name(target):
            raise UsageError(f"{target} is one key", hint=f"several files go to a directory: {target}/")
    with progress.counting(
        f"cp {given[0]}", settings.manner, measure=None if _chooses(options) else lambda: measure(paths)
    ) as report:
        options["report"] = report
        return (
            cluster.put_tree(paths[0], target, **options)
            if len(paths) == 1
            else cluster.put_files(paths, target, **options)
        )


def _copy_one_in(cluster: Cluster, source: str, target: str, *, replace: bool) -> Transfer:
    if not parse_name(target):
        raise UsageError(f"{target} names no bucket", hint=typed("sshmap", "cp", source, "sm://bucket/"))
    directory = target.endswith("/") or "/" not in parse_name(target)
    if source == "-":
        if directory:
            raise UsageError(
                f"stdin needs a key name, {target} is a directory",
                hint=typed("sshmap", "cp", "-", f"{target.rstrip('/')}/name"),
            )
        return cluster.put(sys.stdin.buffer, target, replace=replace)
    key = f"{target.rstrip('/')}/{Path(source).name}" if directory else target
    return cluster.put(Path(source), key, replace=replace)


def _copy_out(
    cluster: Cluster, source: str, target: str, *, recursive: bool, **options: Unpack[CopyOptions]
) -> Transfer:
    if options.get("replace"):
        raise UsageError("--replace is about keys, which cp out does not change", hint="leave it away")
    if recursive:
        return _copy_tree_out(cluster, source, target, **options)
    name = parse_name(source)
    if name.endswith("/") or "/" not in name:
        raise UsageError(f"{source} is a directory", hint=typed("sshmap", "cp", "-r", source, target))
    if target == "-":
        size = cluster.cat(source, sys.stdout.buffer, several=False)
        sys.stdout.buffer.flush()
    else:
        inside = target.endswith("/") or Path(target).is_dir()
        size = cluster.get_file(source, Path(target) / base_name(name) if inside else Path(target))
    return Transfer(fresh=1, size=size)


def _copy_tree_out(cluster: Cluster, source: str, target: str, **options: Unpack[CopyOptions]) -> Transfer:
    """Copy what is below a directory of keys; to ``.``, into a directory of its name unless it is a whole bucket."""
    name = parse_directory(source).rstrip("/")
    if target == "-":
        size = cluster.cat(f"{source.rstrip('/')}/", sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return Transfer(size=size)
    top = Path(base_name(name)) if target == "." and "/" in name else Path(target)
    with progress.counting(
        f"cp {source}", settings.manner, measure=None if _chooses(options) else lambda: cluster.measure(source)
    ) as report:
        options["report"] = report
        return cluster.get_tree(source, top, **options)
