"""up, down, health, hosts, exec, trust: the hosts themselves."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, TextIO

import msgspec
import typer

from sshmap.cli.app import app, ask_before_deleting, settings
from sshmap.cli.completion import offer_hosts
from sshmap.cli.escaping import clean
from sshmap.cli.printers import human_size
from sshmap.cli.progress import hosts_counted
from sshmap.cli.verbs_data import Json, Yes
from sshmap.client.cluster import Cluster
from sshmap.client.commands import Heard
from sshmap.client.results import Spoken, Status, raise_failures
from sshmap.errors import HostLost, HostsFailed, UsageError
from sshmap.inventory import Host, Inventory
from sshmap.inventory.ranges import fold
from sshmap.model import typed
from sshmap.protocol.messages import DaemonStopped

Only = Annotated[
    str,
    typer.Option(
        "--hosts", autocompletion=offer_hosts, envvar="SSHMAP_HOSTS", help="Only these: names, ranges, @groups."
    ),
]
#: bytes of output of all hosts together that are kept for folding
FOLDED = 64 << 20
Without = Annotated[
    str, typer.Option("--exclude", autocompletion=offer_hosts, envvar="SSHMAP_EXCLUDE", help="All but these.")
]


@app.command()
def up() -> None:
    """Start every host's daemon; running it again changes nothing."""
    printer = settings.printer()
    with (
        settings.cluster() as cluster,
        hosts_counted("up", len(cluster.inventory.hosts), settings.manner) as step,
    ):
        statuses, failures = cluster.up(step)
    for name, status in statuses.items():
        printer.note(f"up: {name}: {status.workers} workers, {status.keys} keys, {human_size(status.free)} free")
        for finding in status.findings:
            printer.note(f"note: {name}: {finding}")
    raise_failures(failures, dict(statuses))


@app.command()
def down(
    only: Only = "",
    without: Without = "",
    purge: Annotated[
        bool, typer.Option("--purge", envvar="SSHMAP_PURGE", help="Delete the roots, with all keys.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Stop the hosts' daemons; unfinished tasks stay queued. May be repeated, also after a --purge that stopped half way."""
    with settings.cluster(autostart=False) as cluster:
        names = [host.name for host in cluster.inventory.select(only, without)]
        if purge and not yes:
            _ask_to_purge(
                cluster, names, [*(["--hosts", only] if only else []), *(["--exclude", without] if without else [])]
            )
        try:
            answers = cluster.down(names, purge=purge)
        except HostsFailed as exc:
            _say_stopped(exc.results, purge=purge)
            raise
        _say_stopped(answers, purge=purge)


def _ask_to_purge(cluster: Cluster, names: list[str], choice: list[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"down --purge would delete all keys of {fold(names)}, and there is no terminal to ask on",
            hint=f"to delete them without a question: {typed('sshmap', 'down', '--purge', '-y', *choice)}",
        )
    ask_before_deleting(cluster.count("sm://", names), f"on {fold(names)}")


def _say_stopped(answers: Mapping[str, object], *, purge: bool) -> None:
    for name, stopped in answers.items():
        assert isinstance(stopped, DaemonStopped), "what down answers"
        if stopped.there:
            state = "" if stopped.was_running else " (no daemon was running)"
            settings.printer().note(f"down: {name}{state}{', root deleted' if purge else ''}")
        else:
            settings.printer().note(f"down: {name}: nothing of sshmap is there")


@app.command()
def health(only: Only = "", without: Without = "", json: Json = False) -> None:
    """Say of every host whether it is healthy; exit code 3 if one is not."""
    with settings.cluster(autostart=False) as cluster:
        names = [host.name for host in cluster.inventory.select(only, without)]
        hosts = cluster.health(names)
    rows = [
        {"host": name, "healthy": state.healthy, "reason": "; ".join(state.reasons)} for name, state in hosts.items()
    ]
    settings.printer(json=json).health(rows)
    if bad := [row for row in rows if not row["healthy"]]:
        raise HostLost(f"{len(bad)} of {len(rows)} hosts are unhealthy")


@app.command()
def hosts(
    only: Only = "",
    without: Without = "",
    resolved: Annotated[
        bool,
        typer.Option("--resolved", envvar="SSHMAP_RESOLVED", help="Show where each value comes from; asks no host."),
    ] = False,
    json: Json = False,
) -> None:
    """Show every host: address, share of the ring, keys, disk, daemon."""
    printer = settings.printer(json=json)
    with settings.cluster(autostart=False) as cluster:
        chosen = cluster.inventory.select(only, without)
        if resolved:
            printer.table(_origins(cluster.inventory, chosen))
            return
        statuses, failures = cluster.statuses([host.name for host in chosen])
        shares = cluster.inventory.ring.shares()
        printer.table([_row(host, shares[host.name], statuses.get(host.name), exact=json) for host in chosen])
    raise_failures(failures, {})


def _row(host: Host, share: float, state: Status | None, *, exact: bool) -> dict[str, object]:
    """Describe a host; sizes exactly, or for people."""
    size = (lambda number: number) if exact else human_size
    return {
        "name": host.name,
        "address": host.root if host.is_local else host.address,
        "weight": host.weight,
        "share": round(share, 3),
        "cores": state.cores if state else "-",
        "keys": state.keys if state else "-",
        "bytes": size(state.size) if state else "-",
        "free": size(state.free) if state else "-",
        "daemon": ("running" if state.daemon else "stopped") if state else "unreachable",
        "round trip": f"{state.round_trip * 1000:.1f} ms" if state else "-",
    }


def _origins(inventory: Inventory, chosen: tuple[Host, ...]) -> list[dict[str, object]]:
    return [
        {
            "host": host.name,
            "field": field,
            "value": getattr(host, field),
            "from": inventory.sources.get(host.name, {}).get(field, "built in"),
        }
        for host in chosen
        for field in Host.__struct_fields__
        if field != "name"
    ]


@app.command("exec")
def execute(
    command: Annotated[str, typer.Argument(metavar="CMD", help="Shell command, in quotes.")],
    only: Only = "",
    without: Without = "",
    fold_equal: Annotated[
        bool, typer.Option("-b", "--fold", envvar="SSHMAP_FOLD", help="Show equal output once.")
    ] = False,
) -> int:
    """Run CMD on every host at once, output labelled per host as it comes; the exit code is the highest of the command's."""
    if not command.strip():
        raise UsageError("the command is empty", hint="give the shell command as the last argument, in quotes")
    with settings.cluster() as cluster:
        names = [host.name for host in cluster.inventory.select(only, without)]
        try:
            codes = _folded(cluster, command, names) if fold_equal else cluster.exec_lines(command, _say, names)
        except HostsFailed as exc:
            # the others' exit codes; with -b, of hosts whose output has been shown
            _say_codes({name: code for name, code in exc.results.items() if isinstance(code, int)})
            raise
    _say_codes(codes)
    return max(codes.values(), default=0)


def _say_codes(codes: Mapping[str, int]) -> None:
    """Name the hosts on which the command failed, those with the same exit code together."""
    failed: dict[int, list[str]] = {}
    for name, code in codes.items():
        if code:
            failed.setdefault(code, []).append(name)
    for code, names in sorted(failed.items()):
        sys.stderr.write(f"error: exit {code} on {clean(fold(names))}\n")


def _say(heard: Heard) -> None:
    _label(heard.host, heard.lines, sys.stderr if heard.error else sys.stdout)


def _folded(cluster: Cluster, command: str, names: list[str]) -> dict[str, int]:
    """Run a command and show equal output once; return exit codes.

    Raises:
        HostsFailed: hosts did not answer; its ``results`` are the exit codes of the others.
    """
    try:
        spoken = cluster.exec(command, names, limit=FOLDED // (2 * len(names)))
    except HostsFailed as exc:
        raise HostsFailed(exc.failures, dict(_say_equal(exc.results))) from None
    return _say_equal(spoken)


def _say_equal(answers: Mapping[str, object]) -> dict[str, int]:
    """Show equal output once, and return the exit codes."""
    spoken = {name: said for name, said in answers.items() if isinstance(said, Spoken)}
    groups: dict[tuple[bytes, bytes], list[str]] = {}
    for name, said in spoken.items():
        groups.setdefault((said.stdout, said.stderr), []).append(name)
    for (stdout, stderr), members in groups.items():
        _label(fold(members), stdout.splitlines(), sys.stdout)
        _label(fold(members), stderr.splitlines(), sys.stderr)
    for name, said in spoken.items():
        if said.dropped:
            settings.printer().note(
                f"note: {name}: cut, {human_size(said.dropped)} more were said; leave -b away to see all"
            )
    return {name: said.exit_code for name, said in spoken.items()}


def _label(names: str, lines: Sequence[bytes], stream: TextIO) -> None:
    stream.writelines(f"{names}: {clean(line.decode('utf-8', 'replace'))}\n" for line in lines)
    stream.flush()


@app.command()
def doctor(only: Only = "", without: Without = "", json: Json = False) -> None:
    """Look for what is wrong with the hosts and the way to them, each with what mends it; starts nothing."""
    from sshmap.client.doctor import blocked  # seldom needed

    with settings.cluster(autostart=False) as cluster:
        names = [host.name for host in cluster.inventory.select(only, without)]
        findings = [msgspec.structs.replace(found, mend=settings.typed(found.mend)) for found in cluster.doctor(names)]
    printer = settings.printer(json=json)
    printer.findings(findings)
    printer.note(f"{fold(names)}: {len(findings)} findings")
    if error := blocked(findings):
        raise error


@app.command()
def trust(
    only: Only = "",
    without: Without = "",
    yes: Yes = False,
) -> None:
    """Fetch the hosts' keys, show their fingerprints, ask, and write them to known_hosts."""
    from sshmap.client.trust import accept, fetch_all  # needs no session

    with settings.cluster() as cluster:
        chosen = {host.name: host for host in cluster.inventory.select(only, without) if not host.is_local}
        offers, failures = fetch_all(chosen)
    accepted: set[tuple[str, tuple[str, ...]]] = set()
    for name, offer in offers.items():
        if offer.known or (offer.file, offer.lines) in accepted:
            settings.printer().note(f"{name}: known already")
            continue
        for line in offer.fingerprints:
            sys.stdout.write(f"{name}: {clean(line)}\n")
        if yes or typer.confirm(f"write the keys of {name} to {offer.file}?", err=True):
            accept(offer)
            accepted.add((offer.file, offer.lines))
    raise_failures(failures, dict(offers))
