"""The typer app: the global options, and options that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sshmap.cli.printers import HumanPrinter, JsonPrinter, Printer, QuietPrinter, human_size
from sshmap.cli.progress import Manner, manner
from sshmap.client.cluster import Cluster
from sshmap.client.results import Removal
from sshmap.errors import UsageError
from sshmap.inventory.ranges import fold
from sshmap.model import typed
from sshmap.version import __version__

app = typer.Typer(
    name="sshmap", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Turn a list of plain SSH hosts into a data-processing cluster.",
)  # fmt: skip


class Settings(msgspec.Struct, kw_only=True):
    """The global options."""

    inventory: Path | None = None
    local: int | None = None
    quiet: bool = False
    verbose: bool = False
    #: the hosts that were used, shortly
    called: str = ""
    #: the options by which the user has named the cluster on the command line
    words: tuple[str, ...] = ()

    def cluster(self, *, autostart: bool = True) -> Cluster:
        """Open the cluster they name."""
        cluster = Cluster(self.inventory, local=self.local, autostart=autostart)
        self.called = cluster.inventory.called
        return cluster

    def typed(self, hint: str) -> str:
        """Write a hint so that its commands are about the same cluster when they are typed as they stand."""
        if not self.words:
            return hint
        verbs = "|".join(typer.main.get_group(app).commands)
        return re.sub(rf"(?<![\w./-])sshmap (?=(?:{verbs})\b)", lambda _: f"sshmap {typed(*self.words)} ", hint)

    def choose(self, inventory: Path | None, local: int | None, *, quiet: bool, verbose: bool = False) -> None:
        """Take them over.

        Raises:
            UsageError: two of them name different clusters.
        """
        self.inventory, self.local = chosen_cluster(inventory, local)
        self.quiet, self.verbose = quiet, verbose

    def named(self) -> tuple[str, ...]:
        """Return the options that name the cluster, as they are typed."""
        if self.inventory is not None:
            return "-i", str(self.inventory)
        return () if self.local is None else ("--local", str(self.local))

    @property
    def manner(self) -> Manner:
        """How to show progress."""
        return manner(quiet=self.quiet)

    def printer(self, *, json: bool = False) -> Printer:
        """Return the printer they ask for."""
        if json:
            return JsonPrinter()
        return QuietPrinter() if self.quiet else HumanPrinter()


settings = Settings()


def ask_before_deleting(there: Removal, which: str) -> None:
    """Go on without a question if jobs made all of some keys, as they can make them again; else only after a yes.

    Args:
        there: the keys, and the hosts that did not say how many they have.
        which: says in words which keys they are.
    """
    unknown = f" and those of {fold(there.failures)}, which did not say how many" if there.failures else ""
    if there.copied or unknown:
        copied = f"{there.copied} of them, {human_size(there.copied_size)}, were copied in"
        question = f"delete {there.keys} keys of {human_size(there.size)} {which}{unknown}? {copied}"
        if not typer.confirm(question, err=True):
            settings.printer().note("nothing was deleted")
            raise typer.Exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sshmap {__version__}")
        raise typer.Exit


def chosen_cluster(inventory: Path | None, local: int | None) -> tuple[Path | None, int | None]:
    """Choose one of the two options that name a cluster: what is typed overrides the environment variable of the other.

    Raises:
        UsageError: both are typed.
    """
    if inventory is None or local is None:
        return inventory, local
    if str(inventory) == os.environ.get("SSHMAP_INVENTORY"):
        return None, local
    if str(local) == os.environ.get("SSHMAP_LOCAL"):
        return inventory, None
    raise UsageError("both -i and --local are given", hint="use one of them")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.callback()
def frame(
    context: typer.Context,
    inventory: Annotated[
        Path | None, typer.Option("-i", "--inventory", envvar="SSHMAP_INVENTORY", help="Inventory file.")
    ] = None,
    local: Annotated[
        int | None,
        typer.Option("--local", envvar="SSHMAP_LOCAL", help="Use the built-in local cluster with so many hosts."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", envvar="SSHMAP_QUIET", help="No progress, no notes.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", envvar="SSHMAP_VERBOSE", help="Say more.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Turn a list of plain SSH hosts into a data-processing cluster."""
    settings.choose(inventory, local, quiet=quiet, verbose=verbose)
    named = {"inventory": ("-i", str(settings.inventory)), "local": ("--local", str(settings.local))}
    settings.words = next((words for name, words in named.items() if _is_typed(context, name)), ())
