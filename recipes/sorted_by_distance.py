"""All trips sorted by distance, over the whole cluster: each part is sorted, and so are the parts, in the order of their names.

    python recipes/sorted_by_distance.py --trips DIR --parts 6
    sshmap cat sm://dev/sorted_by_distance/DATASET/part/ | less

Where a part begins is told by a sample of the distances, so that the parts are about equally large.
"""

from __future__ import annotations

import bisect
from typing import Annotated

import taxi
import typer

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Data, Files, Pattern, recipe

#: of so many trips, one is in the sample
EVERY = 50


def sample(rows: Input, out: Output) -> None:
    """Take some of a file's distances."""
    out.lines(distance for (distance,) in taxi.trips(rows, "distance", every=EVERY))


def samples(rows: Input, outputs: Outputs) -> None:
    """Bring them to one host."""
    outputs["sample"].write(rows.bytes())


def split(rows: Input, outputs: Outputs) -> None:
    """Write each trip into the part that its distance belongs to; a part's name says its number, and so its host."""
    with open("bounds", encoding="ascii") as file:
        bounds = [float(line) for line in file]
    for distance, pickup in taxi.trips(rows, "distance", "pickup"):
        number = bisect.bisect_right(bounds, float(distance or 0))
        outputs[f"{number:04}"].write(f"{distance or 0},{pickup}\n")


def part(group: Inputs, out: Output) -> None:
    """Sort one part."""
    rows = [(float(distance), distance, pickup) for one in group for distance, pickup in one.csv()]
    out.csv((distance, pickup) for _, distance, pickup in sorted(rows))


@recipe
def sorted_by_distance(
    trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")],
    parts: Annotated[int, typer.Option(min=1, max=9999, help="Number of parts.")] = 6,
) -> Data:
    """Sort trips by distance."""

    def bounds(group: Inputs, out: Output) -> None:
        found = sorted(float(line or 0) for one in group for line in one.lines())
        out.lines(found[number * len(found) // parts] for number in range(1, parts) if found)

    limits = trips.map(sample, packages=taxi.packages(trips)).fanout(samples).merge(bounds)
    return trips.fanout(split, shipped=[limits], packages=taxi.packages(trips)).merge(part)


if __name__ == "__main__":
    sorted_by_distance.main()
