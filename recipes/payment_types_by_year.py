"""How passengers paid, by year: trips by payment type.

    python recipes/payment_types_by_year.py --trips DIR

Until 2009 the type was a word, since then it is a number.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import taxi

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe


def payments(rows: Input, out: Output) -> None:
    """Count a file's trips by year and payment type, which was a word until 2009."""
    counts = Counter((pickup[:4], payment.lower()) for pickup, payment in taxi.trips(rows, "pickup", "payment"))
    out.csv((year, payment, count) for (year, payment), count in sorted(counts.items()))


def years(rows: Input, outputs: Outputs) -> None:
    """Bring the counts of each year together."""
    for year, payment, count in rows.csv():
        outputs[year or "unknown"].csv([(year, payment, count)])


def added(group: Inputs, out: Output) -> None:
    """Add up the counts of one year."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in group:
        for year, payment, count in one.csv():
            counts[year, payment] += int(count)
    out.csv((year, payment, count) for (year, payment), count in sorted(counts.items()))


@recipe
def payment_types_by_year(trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")]) -> Table:
    """Count trips by year and payment type."""
    return (
        trips.map(payments, packages=taxi.packages(trips))
        .fanout(years)
        .merge(added)
        .table("year", "payment_type", "trips", separator=",")
    )


if __name__ == "__main__":
    payment_types_by_year.main()
