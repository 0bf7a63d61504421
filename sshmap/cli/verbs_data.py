"""cat, ls, rm, verify, where: keys shown, listed, deleted and read against their digests."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer

from sshmap.cli.app import app, ask_before_deleting, settings
from sshmap.cli.completion import offer_keys
from sshmap.cli.escaping import clean, escape
from sshmap.cli.printers import NullPrinter, human_size
from sshmap.cli.progress import counting
from sshmap.client.cluster import Cluster
from sshmap.client.results import Removal, RemovalFailed, raise_failures
from sshmap.client.verifying import Verification, errors_of
from sshmap.errors import HostsFailed, NothingMatched, SshmapError, UsageError
from sshmap.limits import parse_size
from sshmap.model import parse_prefix, show, typed

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


Rate = Annotated[
    str,
    typer.Option(
        "--limit-rate", envvar="SSHMAP_LIMIT_RATE", metavar="SIZE", help="Most bytes a second on each host, as 50M."
    ),
]
Quarantine = Annotated[
    bool,
    typer.Option(
        "--quarantine",
        envvar="SSHMAP_QUARANTINE",
        help="Put aside what is damaged: its file is moved to quarantine/ below the host's root, and it is no key any more.",
    ),
]


@app.command()
def verify(
    prefix: Annotated[
        str, typer.Argument(autocompletion=offer_keys, help="What the keys start with; all when left away.")
    ] = "sm://",
    limit_rate: Rate = "",
    quarantine: Quarantine = False,
    json: Json = False,
) -> None:
    """Read keys from the disks against their digests, and name what is damaged; exit code 5 if anything is."""
    rate = parse_size(limit_rate, "--limit-rate") if limit_rate else 0
    with settings.cluster() as cluster:
        found, failures = _verify(cluster, prefix, rate, quarantine=quarantine)
        _say_damages(found, {host.name: host.root for host in cluster.inventory.hosts}, quarantine=quarantine)
    settings.printer(json=json).table([_verified_row(name, one, exact=json) for name, one in found.items()])
    again = "the same cp or job makes these keys again"
    hint = again if quarantine else f"{typed('sshmap', 'verify', '--quarantine', prefix)} puts them aside; then {again}"
    raise_failures(errors_of(found, failures, hint), {})
    if (name := parse_prefix(prefix)) and not any(one.keys for one in found.values()):
        raise NothingMatched(f"no key starts with {show(name)}")


def _verify(
    cluster: Cluster, prefix: str, rate: int, *, quarantine: bool
) -> tuple[dict[str, Verification], dict[str, SshmapError]]:
    """Have the hosts read their keys; return what they have found, as far as they came, and those that failed."""
    with counting("verify", settings.manner, measure=lambda: _measured(cluster.count(prefix))) as step:
        try:
            return cluster.verify(prefix, rate=rate, quarantine=quarantine, report=step), {}
        except HostsFailed as exc:
            found = {name: one for name, one in exc.results.items() if isinstance(one, Verification)}
            return found, exc.failures


def _measured(there: Removal) -> tuple[int, int]:
    return there.keys, there.size


def _verified_row(name: str, found: Verification, *, exact: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "host": name,
        "keys": found.keys,
        "bytes": found.size if exact else human_size(found.size),
    }
    row |= {"damaged": found.damaged, "missing": found.missing}
    return row | {"damages": [msgspec.structs.asdict(one) for one in found.damages]} if exact else row


def _say_damages(found: Mapping[str, Verification], roots: Mapping[str, str], *, quarantine: bool) -> None:
    """Name each damaged key, and say where it was put."""
    for host, verification in found.items():
        for one in verification.damages:
            where = ""
            if one.put_aside:
                where = f", put aside: {roots[host]}/{one.path}" if one.path else ", and it is no key any more"
            elif quarantine:
                where = f"; it was changed or deleted meanwhile, or it lies below {roots[host]}/quarantine"
            sys.stderr.write(clean(f"error: {host}: {one.key}: {one.problem}{where}") + "\n")
        if more := verification.damaged + verification.missing - len(verification.damages):
            sys.stderr.write(clean(f"error: {host}: and {more} more damaged keys") + "\n")
