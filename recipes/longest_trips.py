"""The longest trips.

    python recipes/longest_trips.py --trips DIR --top 10

Only the longest of each file leave their host.
"""

from __future__ import annotations

import heapq
from typing import Annotated

import taxi

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe

Ranked = tuple[float, str]


def longest(trips: list[Ranked], top: int) -> list[Ranked]:
    """Return the longest of some trips, the longest first; of two equal ones the later."""
    return heapq.nlargest(top, trips)


@recipe
def longest_trips(trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")], top: int = 5) -> Table:
    """Find the longest trips."""

    def few(rows: Input, out: Output) -> None:
        found = [(float(distance or 0), pickup) for distance, pickup in taxi.trips(rows, "distance", "pickup")]
        out.csv(longest(found, top))

    def gathered(rows: Input, outputs: Outputs) -> None:
        outputs["trips"].write(rows.bytes())

    def fewest(group: Inputs, out: Output) -> None:
        out.csv(longest([(float(distance), pickup) for one in group for distance, pickup in one.csv()], top))

    return (
        trips.map(few, packages=taxi.packages(trips))
        .fanout(gathered)
        .merge(fewest)
        .table("distance", "pickup", separator=",")
    )


if __name__ == "__main__":
    longest_trips.main()
