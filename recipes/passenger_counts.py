"""Trips by passenger count, over a directory of taxi CSV files.

    python recipes/passenger_counts.py --data DIR        # or without --data: on made-up trips

The pipeline; every arrow is one job, and a directory's keys lie side by side below one name::

    csv/2018-01.csv      the file, as it is
      │ map              select the column, by its name in the header           (cut)
    column/2018-01.csv
      │ map              group and count                                        (sort | uniq -c)
    counts/2018-01.csv
      │ fanout           gather: every month's counts get one name, so they come to one host
    gathered/2018-01.csv/passenger_count
      │ merge            add them up
    merged/passenger_count

Run again, nothing runs that has run before. A file that is new or has changed is sent, and what
depends on it runs; of a file that is gone all is deleted, so that it is not counted any more. Both
are said. Directories do not mix: a digest of the absolute path is part of their keys' names.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import xxhash
from trips import Months, Trips, write_months

from sshmap import Cluster
from sshmap.cli.printers import HumanPrinter, JsonPrinter
from sshmap.cli.progress import counting, following, manner
from sshmap.client.job_results import JobResult
from sshmap.client.listing import Placed
from sshmap.errors import SshmapError, UsageError

#: blanks, quotes and carriage returns are no part of a name or count; a row narrower than the header is no trip
SELECT = r"""
header=$(head -n 1 "$SSHMAP_FILE" | tr -d ' "\r')
column=$(tr , '\n' <<<"$header" | grep -n -i -x -m 1 passenger_count | cut -d: -f1) ||
  { echo "no column passenger_count in the header: $header" >&2; exit 1; }
tr -d ' "\r' | awk -F, 'NR == 1 { width = NF } NR > 1 && NF >= width' | cut -d, -f"$column"
"""
#: stdin lists the paths of all months' counts: lines of trips and passenger count, which may be empty
MERGE = r"""
tr '\n' '\0' | xargs -0 cat |
  awk '{ trips[$2] += $1 } END { for (count in trips) printf "%.0f %s\n", trips[count], count }' |
  sort -k1,1nr -k2,2n
"""
note = HumanPrinter().note  # what is not data goes to stderr
#: what is made, in this order: by which verb, from what, with which command; what other data has made is replaced
STEPS: dict[str, tuple[Callable[..., JobResult], str, str]] = {
    "column": (Cluster.map, "csv", SELECT),
    "counts": (Cluster.map, "column", "sort | uniq -c"),
    "gathered": (Cluster.fanout, "counts", "cat > passenger_count; echo passenger_count"),
    "merged": (Cluster.merge, "gathered", MERGE),
}


def send(cluster: Cluster, home: str, data: Path) -> None:
    """Make the keys below ``home``/csv/ those of a directory's CSV files; UsageError if it has none."""
    files = {path.name: path for path in sorted(data.glob("*.csv"))}
    if not files:
        raise UsageError(f"no CSV file in {data}", hint="--data takes a directory with files named *.csv")
    digests = {name: digest(path) for name, path in files.items()}
    same = forget(cluster, home, digests)
    with counting("data", manner(quiet=False)) as report:
        for name in files.keys() - same:
            report(1, cluster.put(files[name], f"{home}/csv/{name}").size)
    note(f"data: {len(files) - len(same)} sent, {len(same)} there already")


def forget(cluster: Cluster, home: str, digests: dict[str, bytes]) -> set[str]:
    """Delete files that have changed, and of files that are gone all that was made; return the others' names."""
    same = set()
    for placed in [row for row in cluster.ls(f"{home}/", recursive=True) if isinstance(row, Placed)]:
        step, name = placed.path.split("/")[2:4]
        if step == "csv" and placed.digest == digests.get(name):
            same.add(name)
        elif step == "csv" or (step != "merged" and name not in digests):
            cluster.rm(placed.name)
            if step == "csv":
                note(f"data: {name} {'has changed' if name in digests else 'is gone'}")
    return same


def digest(path: Path) -> bytes:
    """Return the digest under which the cluster knows a file's content; UsageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, xxhash.xxh3_128).digest()
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc


def compute(cluster: Cluster, home: str) -> list[tuple[str, int]]:
    """Run what has not run before; return passenger counts and their trips, most trips first."""
    ran = kept = 0
    for target, (verb, source, command) in STEPS.items():
        with following(target, manner(quiet=False)) as report:
            result = verb(cluster, f"{home}/{source}/", f"{home}/{target}/", command, replace=True, report=report)
        note(f"{target}: {result.done} ran, {result.kept} kept")
        ran, kept = ran + result.done, kept + result.kept
    note(f"done: {ran} ran, {kept} kept" if ran else f"nothing ran: all {kept} results were there already")
    lines = cluster.get(f"{home}/merged/passenger_count").decode().splitlines()
    return [(value, int(trips)) for trips, value in (line.split(" ") for line in lines)]


def dataset(data: Path) -> str:
    """Name a directory: for people by its own name, for certain by a digest of its whole path."""
    path = data.resolve()
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', path.name)[:100]}-{xxhash.xxh3_64_hexdigest(bytes(path))}"


def run(cluster: Cluster, data: Path, name: str, *, json: bool) -> None:
    """Bring the data in, count, print."""
    home, empty = f"sm://passenger_counts/{name}", None if json else "-"
    send(cluster, home, data)
    rows = [(int(value) if value.isdecimal() else value or empty, trips) for value, trips in compute(cluster, home)]
    printer = JsonPrinter() if json else HumanPrinter()
    printer.table([{"passenger_count": value, "trips": trips} for value, trips in rows])


Data = Annotated[Path | None, typer.Option("--data", help="Directory of CSV files; without one, made-up trips.")]
File = Annotated[Path | None, typer.Option("-i", "--inventory", envvar="SSHMAP_INVENTORY", help="Inventory file.")]
Local = Annotated[int | None, typer.Option("--local", envvar="SSHMAP_LOCAL", help="So many local hosts instead.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main(
    data: Data = None, inventory: File = None, local: Local = None, json: Json = False, months: Months = 12, trips: Trips = 10_000
) -> None:  # fmt: skip
    """Count taxi trips by passenger count."""
    try:
        with Cluster(inventory, local=local) as cluster, tempfile.TemporaryDirectory() as folder:
            if data is None:
                write_months(Path(folder), months, trips)
            run(cluster, data or Path(folder), dataset(data) if data else f"made-up-{trips}", json=json)
    except SshmapError as exc:
        note(f"error: {exc}")
        if exc.hint:
            note(f"hint: {exc.hint}")
        raise typer.Exit(exc.exit_code) from exc


if __name__ == "__main__":
    typer.run(main)
