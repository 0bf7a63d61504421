"""inventory: printing one to start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sshmap.cli.app import app
from sshmap.inventory.importing import from_s4, from_ssh

inventories = typer.Typer(help="Print an inventory to start from.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(inventories, name="inventory")


@inventories.command("from-s4")
def print_from_s4(
    file: Annotated[Path, typer.Argument(help="The servers' addresses, one a line.")] = Path("~/.s4.conf"),
) -> None:
    """Print an inventory of the servers in an s4.conf."""
    sys.stdout.write(from_s4(file))


@inventories.command("from-ssh")
def print_from_ssh(
    pattern: Annotated[str, typer.Argument(help="Names of hosts, as 'web*'.")],
    config: Annotated[Path, typer.Option("--config", envvar="SSHMAP_CONFIG", help="The ssh_config to read.")] = Path(
        "~/.ssh/config"
    ),
) -> None:
    """Print an inventory of the hosts of an ssh_config that match a pattern."""
    sys.stdout.write(from_ssh(pattern, config))
