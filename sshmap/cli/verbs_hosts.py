"""up, down, health, hosts: the hosts themselves."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sshmap.cli.app import app, settings
from sshmap.cli.printers import human_size
from sshmap.cli.verbs_data import Json
from sshmap.client.results import raise_failures
from sshmap.errors import HostLost


@app.command()
def up() -> None:
    """Start every host's daemon; running it again changes nothing."""
    printer = settings.printer()
    with settings.cluster() as cluster:
        conditions, failures = cluster.up()
    for name, condition in conditions.items():
        printer.note(
            f"up: {name}: {condition.workers} workers, {condition.keys} keys, {human_size(condition.free)} free"
        )
    raise_failures(failures, dict(conditions))


@app.command()
def down(
    purge: Annotated[
        bool, typer.Option("--purge", envvar="SSHMAP_PURGE", help="Delete the roots, with all keys.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", envvar="SSHMAP_YES", help="Do not ask.")] = False,
) -> None:
    """Stop every host's daemon; unfinished tasks stay queued."""
    printer = settings.printer()
    with settings.cluster() as cluster:
        if purge:
            conditions, failures = cluster.conditions()
            raise_failures(failures, dict(conditions))
            for name, condition in conditions.items():
                printer.note(f"{name}: {condition.keys} keys of {human_size(condition.size)}")
            if not yes and sys.stdin.isatty():
                typer.confirm("delete the roots of all these hosts?", abort=True, err=True)
        for name, halted in cluster.down(purge=purge).items():
            printer.note(
                f"down: {name}{'' if halted.was_running else ' (no daemon was running)'}{', root deleted' if purge else ''}"
            )


@app.command()
def health(json: Json = False) -> None:
    """Say of every host whether it is healthy; exit code 3 if one is not."""
    with settings.cluster() as cluster:
        conditions, failures = cluster.conditions()
        names = [host.name for host in cluster.inventory.hosts]
    rows: list[dict[str, object]] = []
    for name in names:
        reasons = [str(failures[name])] if name in failures else list(conditions[name].findings)
        if name in conditions and not conditions[name].daemon:
            reasons.append("the daemon is not running: sshmap up")
        rows.append({"host": name, "healthy": not reasons, "reason": "; ".join(reasons)})
    if json:
        settings.printer(json=True).table(rows)
    else:
        for row in rows:
            sys.stdout.write(
                f"healthy: {row['host']}\n" if row["healthy"] else f"unhealthy: {row['host']}: {row['reason']}\n"
            )
    if bad := [row for row in rows if not row["healthy"]]:
        raise HostLost(f"{len(bad)} of {len(rows)} hosts are unhealthy")


@app.command()
def hosts(json: Json = False) -> None:
    """Show every host: address, share of the ring, keys, disk, daemon."""
    with settings.cluster() as cluster:
        conditions, failures = cluster.conditions()
        shares = cluster.inventory.ring.shares()
        rows: list[dict[str, object]] = []
        for host in cluster.inventory.hosts:
            state = conditions.get(host.name)
            rows.append({
                "name": host.name, "address": host.root if host.is_local else host.address, "weight": host.weight, "share": round(shares[host.name], 3),
                "cores": state.cores if state else "-", "keys": state.keys if state else "-",
                "bytes": (state.size if json else human_size(state.size)) if state else "-",
                "free": (state.free if json else human_size(state.free)) if state else "-",
                "daemon": ("running" if state.daemon else "stopped") if state else "unreachable",
            })  # fmt: skip
        settings.printer(json=json).table(rows)
    raise_failures(failures, {})
