"""Works on Python functions and recipes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import sshmap
from sshmap.functions import Input, Output
from tests.benchmarks.arena import Arena
from tests.benchmarks.local_small import TIMES, xargs
from tests.benchmarks.measure import Side, alternate, call
from tests.benchmarks.report import Row

RECIPES = Path(sshmap.__file__).parents[1] / "recipes"
#: files that the recipe has done already
MONTHS = 24


def copy(rows: Input, out: Output) -> None:
    """Do what ``cat`` does."""
    out.write(rows.bytes())


def function_tiny(arena: Arena) -> Iterator[Row]:
    """Map a Python function over the tiny keys."""
    cluster, source = arena.cluster(), arena.held("tiny")
    with sshmap.Cluster(cluster.inventory) as opened:
        ours = Side(lambda: opened.map(source, f"sm://{arena.unused('called')}/", copy))
        loop = Side(lambda: xargs(arena.tiny, arena.fresh(arena.unused("loop")), "cat"))
        took, limit = alternate(TIMES, ours, loop)
    yield Row(f"map a Python function, {arena.scaled(5000)} keys vs xargs bash", took, limit, 0.25)


def recipe_again(arena: Arena) -> Iterator[Row]:
    """Run a recipe of which nothing is to be done any more."""
    cluster = arena.cluster()
    options = [*cluster.options, "--months", str(MONTHS), "--trips", "1000", "--quiet"]
    argv = [sys.executable, str(RECIPES / "passenger_counts.py"), *options]
    call(argv)
    ours = Side(lambda: call(argv))
    plain = Side(lambda: call([sys.executable, "-c", "import typer"]))
    took, limit = alternate(10, ours, plain)
    yield Row(f"passenger_counts again, {MONTHS} files vs import typer", took, limit, 6)
