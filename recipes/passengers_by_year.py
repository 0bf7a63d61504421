"""Trips brought together by passenger count, over the whole cluster, and then counted by year.

    python recipes/passengers_by_year.py --trips DIR

The shuffle moves a line for each trip: what has to be done to all trips of one kind is done where they lie then.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import taxi

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe


def by_passengers(rows: Input, outputs: Outputs) -> None:
    """Split a file by passenger count."""
    for pickup, passengers in taxi.trips(rows, "pickup", "passengers"):
        outputs[passengers or "unknown"].write(f"{pickup}\n")


def by_year(group: Inputs, out: Output) -> None:
    """Count the trips of one passenger count by year."""
    years = Counter(line[:4] for one in group for line in one.lines())
    out.csv((group.name, year, count) for year, count in sorted(years.items()))


@recipe
def passengers_by_year(trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")]) -> Table:
    """Count trips by passenger count and year."""
    return (
        trips.fanout(by_passengers, packages=taxi.packages(trips))
        .merge(by_year)
        .table("passengers", "year", "trips", separator=",")
    )


if __name__ == "__main__":
    passengers_by_year.main()
