"""What passengers paid in all, by the month in which they were picked up.

    python recipes/total_amount_by_month.py --trips DIR

The amounts are added as decimals, so that cents come out exactly.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Annotated

import taxi

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe


def amounts(rows: Input, out: Output) -> None:
    """Add up a file's amounts by month."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for pickup, total in taxi.trips(rows, "pickup", "total"):
        sums[pickup[:7]] += Decimal(total or 0)
    out.csv(sorted(sums.items()))


def gathered(rows: Input, outputs: Outputs) -> None:
    """Give all files' sums one name, so that they come to one host."""
    outputs["months"].write(rows.bytes())


def months(group: Inputs, out: Output) -> None:
    """Add the files up."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for one in group:
        for month, amount in one.csv():
            sums[month] += Decimal(amount)
    out.csv(sorted(sums.items()))


@recipe
def total_amount_by_month(trips: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files")]) -> Table:
    """Add up what passengers paid, by month."""
    total = trips.map(amounts, packages=taxi.packages(trips)).fanout(gathered).merge(months)
    return total.table("month", "amount", separator=",").bars("month", "amount")


if __name__ == "__main__":
    total_amount_by_month.main()
