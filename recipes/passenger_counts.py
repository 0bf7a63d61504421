"""Trips by passenger count, over a directory of the taxi agency's files.

    python recipes/passenger_counts.py --data DIR        # or without --data: on made-up trips

Every step is one job; a directory's keys lie side by side below one name::

    data/2018-01.csv      the file, as it is
      │ map               select the column, by its name in the header           (Python)
    column/2018-01.csv
      │ map               group and count                                        (sort | uniq -c)
    counts/2018-01.csv
      │ fanout            gather: every month's counts get one name, so they come to one host
    gathered/2018-01.csv/passenger_count
      │ merge             add them up
    merged/passenger_count

Run again, nothing runs that has run before. A file that is new or has changed is sent, and what
depends on it runs; what came of a file that is gone is deleted, so that it is not counted any more.
"""

from __future__ import annotations

from typing import Annotated

import taxi
from trips import Months, Trips, write_months

from sshmap.functions import Input, Output
from sshmap.recipe import Files, Pattern, Table, recipe

#: stdin lists the paths of all months' counts: lines of trips and passenger count, which may be empty
ADD_UP = r"""
tr '\n' '\0' | xargs -0 cat |
  awk '{ trips[$2] += $1 } END { for (count in trips) printf "%s %.0f\n", count, trips[count] }' |
  sort -t ' ' -k2,2nr -k1,1n
"""


def passengers(rows: Input, out: Output) -> None:
    """Select the column, by its name in the header."""
    out.lines(count for (count,) in taxi.trips(rows, "passengers"))


@recipe
def passenger_counts(
    data: Annotated[Files, Pattern("*.csv* *.parquet", "The agency's files; made-up trips if none are given")],
    months: Months = 12,
    trips: Trips = 10_000,
) -> Table:
    """Count taxi trips by passenger count."""
    files = data.or_made(f"made-up-{trips}", lambda folder: write_months(folder, months, trips))
    column = files.map("column", passengers, packages=taxi.packages(files))
    counts = column.map("counts", "sort | uniq -c")
    gathered = counts.fanout("gathered", "cat > passenger_count; echo passenger_count")
    merged = gathered.merge("merged", ADD_UP)
    return merged.table("passenger_count", "trips", separator=" ").bars("passenger_count", "trips")


if __name__ == "__main__":
    passenger_counts.main()
