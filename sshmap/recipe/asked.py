"""What every recipe can be asked for on its command line."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import msgspec
import typer


class Graph(enum.Enum):
    """How a recipe is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"


class Order(enum.Enum):
    """In which order the gaps of several dates are done."""

    OLDEST = "oldest"
    NEWEST = "newest"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """It, as typed; see `OPTIONS`."""

    inventory: Path | None = None
    local: int | None = None
    quiet: bool = False
    env: str = "dev"
    dataset: str = ""
    dry_run: bool = False
    explain: bool = False
    first: str = ""
    last: str = ""
    graph: Graph | None = None
    json: bool = False
    date: str = ""
    start: str = ""
    stop: str = ""
    backfill: Order | None = None
    database: str = ""
    migrate: bool = False
    refetch: bool = False
    plot: str = ""


#: by name: type, default and option
OPTIONS: dict[str, tuple[Any, Any, Any]] = {
    "inventory": (Path | None, None, typer.Option("-i", "--inventory", envvar="SSHMAP_INVENTORY", help="Inventory file.")),
    "local": (int | None, None, typer.Option("--local", envvar="SSHMAP_LOCAL", help="Use the built-in local cluster with so many hosts.")),
    "quiet": (bool, False, typer.Option("-q", "--quiet", envvar="SSHMAP_QUIET", help="No progress, no notes.")),
    "env": (str, "dev", typer.Option("--env", envvar="SSHMAP_ENV", help="Environment: the bucket that all keys lie in.")),
    "dataset": (str, "", typer.Option("--dataset", help="Name of the data, instead of one made of where its files lie.")),
    "date": (str, "", typer.Option("--date", help="What the data is about, such as 2018-03; not when it is run.")),
    "start": (str, "", typer.Option("--start", metavar="DATE", help="Run for all dates from this one on.")),
    "stop": (str, "", typer.Option("--stop", metavar="DATE", help="The first date that is not wanted any more.")),
    "backfill": (Order | None, None, typer.Option("--backfill", help="Of several dates, run those of which something is missing or has changed.")),
    "dry_run": (bool, False, typer.Option("-n", "--dry-run", help="Say how much each step would do; change nothing.")),
    "explain": (bool, False, typer.Option("--explain", help="Say why each task would be run; change nothing.")),
    "first": (str, "", typer.Option("--from", metavar="STEP", help="Run this step and what is made from it, nothing before.")),
    "last": (str, "", typer.Option("--until", metavar="STEP", help="Run this step and what it is made from, nothing after.")),
    "graph": (Graph | None, None, typer.Option("--graph", help="Draw files and steps; change nothing.")),
    "database": (str, "", typer.Option("--database", metavar="DATABASE",
        help="Where its table is loaded: a file (of DuckDB as x.duckdb, of Parquet as x.parquet, else of SQLite) or postgresql://…; "
             "ENVIRONMENT.sqlite if not given.")),
    "migrate": (bool, False, typer.Option("--migrate", help="Add columns that the table in the database does not have.")),
    "refetch": (bool, False, typer.Option("--refetch", help="Fetch raw inputs again, where the server says that they have changed.")),
    "plot": (str, "", typer.Option("--plot", metavar="FILE", help="Draw its bars into a file such as bars.png.")),
    "json": (bool, False, typer.Option("--json", help="Print JSON.")),
}  # fmt: skip
