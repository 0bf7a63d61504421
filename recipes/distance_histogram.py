"""How far trips go: a histogram, and quantiles.

    python recipes/distance_histogram.py --trips DIR

No host sees all trips, and none has to sort any. A sketch of each file (DDSketch, VLDB 2019) says its quantiles within 1 %, and
sketches of files can be merged into that of all of them.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from typing import Annotated

import taxi
import typer

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe

SKETCHES = ["ddsketch[serialization]>=3,<4"]
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


def gathered(rows: Input, outputs: Outputs) -> None:
    """Give all files' figures one name, so that they come to one host."""
    outputs["distances"].write(rows.bytes())


def merged(group: Inputs, out: Output) -> None:
    """Merge the files' figures."""
    from ddsketch.ddsketch import DDSketch
    from ddsketch.pb.ddsketch_pb2 import DDSketch as Written
    from ddsketch.pb.proto import DDSketchProto

    miles, sketch = Counter[str](), DDSketch()
    for one in group:
        figures = one.json()
        miles.update(figures["miles"])
        written = Written.FromString(base64.b64decode(figures["sketch"]))
        sketch.merge(DDSketchProto.from_proto(written))  # type: ignore[no-untyped-call]
    found = {quantile: sketch.get_quantile_value(quantile) for quantile in QUANTILES if sketch.count}
    out.json({"miles": miles, "quantiles": found})


def quantiles(rows: Input, out: Output) -> None:
    """Write the quantiles."""
    out.csv(
        (f"p{100 * float(quantile):g}", f"{distance:.3f}") for quantile, distance in rows.json()["quantiles"].items()
    )


@recipe
def distance_histogram(
    trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")],
    most: Annotated[int, typer.Option(min=1, help="The last row has the trips of so many miles and more.")] = 20,
) -> tuple[Table, Table]:
    """Count trips by their miles, and find the quantiles of their distances."""

    def figures(rows: Input, out: Output) -> None:
        from ddsketch.ddsketch import DDSketch
        from ddsketch.pb.proto import DDSketchProto

        miles, sketch = Counter[int](), DDSketch()
        for (distance,) in taxi.trips(rows, "distance"):
            # some files say nan
            if distance and math.isfinite(float(distance)):
                sketch.add(float(distance))
                miles[min(math.floor(float(distance)), most)] += 1
        written = DDSketchProto.to_proto(sketch)  # type: ignore[no-untyped-call]
        out.json({"miles": miles, "sketch": base64.b64encode(written.SerializeToString(deterministic=True)).decode()})

    def histogram(rows: Input, out: Output) -> None:
        miles = {int(mile): count for mile, count in rows.json()["miles"].items()}
        for mile in range(min(miles), max(miles) + 1) if miles else ():
            out.csv([(f"{mile}+" if mile == most else mile, miles.get(mile, 0))])

    each = trips.map(figures, packages=[*SKETCHES, *taxi.packages(trips)])
    found = each.fanout(gathered).merge(merged, packages=SKETCHES)
    shape = found.map(histogram).table("miles", "trips", separator=",").bars("miles", "trips")
    return shape, found.map(quantiles).table("quantile", "miles", separator=",")


if __name__ == "__main__":
    distance_histogram.main()
