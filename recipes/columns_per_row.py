"""How many columns the rows have: what a look at unknown files begins with.

    python recipes/columns_per_row.py --trips DIR

The header counts as a row.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import taxi

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe


def widths(rows: Input, out: Output) -> None:
    """Count a file's rows by their number of columns."""
    if taxi.is_parquet(rows):
        from pyarrow import parquet  # only hosts with such a file need it

        metadata = parquet.read_metadata(rows.path)
        counts = {metadata.num_columns: metadata.num_rows + 1}
    else:
        counts = Counter(len(row) for row in rows.csv())
    out.csv(sorted(counts.items()))


def gathered(rows: Input, outputs: Outputs) -> None:
    """Give all files' counts one name, so that they come to one host."""
    outputs["widths"].write(rows.bytes())


def added(group: Inputs, out: Output) -> None:
    """Add the files up."""
    counts: Counter[int] = Counter()
    for one in group:
        for width, count in one.csv():
            counts[int(width)] += int(count)
    out.csv(sorted(counts.items()))


@recipe
def columns_per_row(trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")]) -> Table:
    """Count rows by their number of columns."""
    return (
        trips.map(widths, packages=taxi.packages(trips))
        .fanout(gathered)
        .merge(added)
        .table("columns", "rows", separator=",")
    )


if __name__ == "__main__":
    columns_per_row.main()
