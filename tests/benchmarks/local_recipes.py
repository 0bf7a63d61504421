"""Works on Python functions and recipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import sshmap
from sshmap.functions import Input, Inputs, Output, Outputs
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
    made = [sys.executable, str(RECIPES / "trips.py"), str(arena.top / "months")]
    call([*made, "--months", str(MONTHS), "--trips", "1000"])
    argv = [
        sys.executable,
        str(RECIPES / "passenger_counts.py"),
        *cluster.options,
        "--data",
        str(arena.top / "months"),
        "--quiet",
    ]
    call(argv)
    ours = Side(lambda: call(argv))
    plain = Side(lambda: call([sys.executable, "-c", "import typer"]))
    took, limit = alternate(10, ours, plain)
    yield Row(f"passenger_counts again, {MONTHS} files vs import typer", took, limit, 6)


def totals(rows: Input, out: Output) -> None:
    """Add up what trips cost, by passenger count."""
    import os  # before polars, which reads it once: there are as many workers as cores

    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl

    sums = pl.scan_csv(rows.path).group_by("passenger_count").agg(pl.col("total_amount").sum()).collect()
    out.csv(sums.rows())


def gathered(rows: Input, outputs: Outputs) -> None:
    """Bring the files' totals to one host."""
    outputs["totals"].write(rows.bytes())


def added(group: Inputs, out: Output) -> None:
    """Add the files' totals up."""
    sums: dict[str, float] = {}
    for one in group:
        for passengers, total in one.csv():
            sums[passengers] = sums.get(passengers, 0) + float(total)
    out.csv(sorted(sums.items()))


ALONE = """
import sys, polars
from pathlib import Path
trips = polars.scan_csv(sorted(Path(sys.argv[1]).iterdir()))
sums = trips.group_by("passenger_count").agg(polars.col("total_amount").sum()).collect(engine="streaming")
print(sums.sort("passenger_count"))
"""


def group_by(arena: Arena) -> Iterator[Row]:
    """Add up a column by another one with polars, over the CSV files four times."""
    cluster, source = arena.cluster(), arena.held("fleet")
    with sshmap.Cluster(cluster.inventory) as opened:

        def ours() -> None:
            opened.map(source, "sm://sums/", totals, packages=["polars>=1.20"])
            opened.fanout("sm://sums/", "sm://sums-gathered/", gathered)
            opened.merge("sm://sums-gathered/", "sm://sums-added/", added)

        def clear() -> None:
            for name in ("sums", "sums-gathered", "sums-added"):
                opened.rm(f"sm://{name}/", recursive=True)

        # the packages are shipped, and the files read once
        ours()
        clear()
        plain = Side(lambda: call([sys.executable, "-c", ALONE, str(arena.fleet)]))
        took, limit = alternate(TIMES, Side(ours, clear), plain)
    yield Row(f"group-by sum with polars, {arena.scaled(4000)} MB vs polars alone", took, limit, 1.4)


#: what the recipe makes of a trip, and its order
_SORT = 'awk -F, \'FNR > 1 { print $5 "," $2 }\' "$@" | LC_ALL=C sort -g --parallel=2 > sorted'


def sort(arena: Arena) -> Iterator[Row]:
    """Sort the trips of the CSV files by distance."""
    cluster = arena.cluster(3)
    argv = [sys.executable, str(RECIPES / "sorted_by_distance.py"), *cluster.options, "--quiet", "--dataset", "bench"]
    # the files are there
    call([*argv, "--trips", str(arena.trips), "--until", "sample"])

    def clear() -> None:
        for step in ("sample", "samples", "bounds", "split", "part"):
            cluster("rm", "-r", f"sm://dev/sorted_by_distance/bench/{step}/")

    def plain() -> None:
        subprocess.run(
            ["bash", "-c", _SORT, "sort", *sorted(map(str, arena.trips.iterdir()))],
            cwd=arena.fresh("sorted"),
            check=True,
        )

    clear()
    ours = Side(lambda: call([*argv, "--trips", str(arena.trips), "--from", "sample"]), clear)
    took, limit = alternate(2, ours, Side(plain))
    yield Row(f"sorted_by_distance, {arena.scaled(1000)} MB vs sort -g", took, limit, 1.5)
