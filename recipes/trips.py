"""Made-up taxi trips, as untidy as the agency's: what a recipe runs on where there is no real data.

    python recipes/trips.py DIR --months 3 --trips 1000

The files are the same on every machine, and a month is the same however many are made beside it.
A year has its columns in an order of its own and one of three header styles: of 2009, of 2010-2014
(some years with a blank after each comma and lines that end in CR LF), of 2015 and later (some
years in quotes). Blank lines, rows with too few columns and empty passenger counts are strewn in.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

#: what a year is told apart by: the names of its columns, in the order in which `_trip` makes their values
HEADERS = {
    2009: "vendor_name Trip_Pickup_DateTime Trip_Dropoff_DateTime Passenger_Count Trip_Distance Payment_Type Fare_Amt Tip_Amt Total_Amt",
    2010: "vendor_id pickup_datetime dropoff_datetime passenger_count trip_distance payment_type fare_amount tip_amount total_amount",
    2015: "VendorID tpep_pickup_datetime tpep_dropoff_datetime passenger_count trip_distance payment_type fare_amount tip_amount total_amount",
}
#: the first three years show the three header styles
YEARS = (2009, 2011, 2015, 2010, 2012, 2016, 2013, 2014, 2017)
SPACED, QUOTED = (2011, 2013), (2016,)
MOST_MONTHS = 12 * len(YEARS)
#: passenger counts and how often they come; the empty one too
COUNTS, WEIGHTS = ("1", "2", "3", "4", "5", "6", "0", ""), tuple(itertools.accumulate((70, 14, 4, 2, 5, 3, 1, 1)))
#: one row in so many is followed by a row with too few columns
STRAY = 50

Months = Annotated[int, typer.Option(min=1, max=MOST_MONTHS, help="Number of files.")]
Trips = Annotated[int, typer.Option(min=0, help="Trips in each file.")]


def write_months(folder: Path, months: int, trips: int) -> None:
    """Write files into a directory, which is made if there is none.

    Args:
        folder: where to.
        months: number of files, at most `MOST_MONTHS`.
        trips: number of trips in each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(months):
        year, month = YEARS[number % len(YEARS)], 1 + number // len(YEARS)
        end = "\r\n" if year in SPACED else "\n"
        with (folder / f"yellow_tripdata_{year}-{month:02}.csv").open("w", encoding="ascii", newline="") as file:
            file.writelines(line + end for line in _lines(year, month, trips))


def _lines(year: int, month: int, trips: int) -> Iterator[str]:
    """Make one file, line by line."""
    names = HEADERS[max(first for first in HEADERS if first <= year)].split()
    order = [0, 1, 2, *random.Random(year).sample(range(3, len(names)), len(names) - 3)]  # noqa: S311  # no secrets here
    chance = random.Random(12 * year + month)  # noqa: S311  # no secrets here
    quote, comma = '"' if year in QUOTED else "", ", " if year in SPACED else ","
    yield comma.join(f"{quote}{names[column]}{quote}" for column in order)
    yield ""
    for _ in range(trips):
        values = _trip(chance, f"{year}-{month:02}")
        row = [values[column] for column in order]
        yield ",".join(row)
        if chance.randrange(STRAY) == 0:
            yield ",".join(row[: chance.randrange(len(row))])


def _trip(chance: random.Random, month: str) -> list[str]:
    """Make the values of one trip, in the order of `HEADERS`."""
    day, hour, minutes = chance.randint(1, 28), chance.randint(0, 22), chance.randint(1, 59)
    fare, tip = chance.randint(250, 6000) / 100, chance.randint(0, 900) / 100
    return [
        str(chance.randint(1, 2)),
        f"{month}-{day:02} {hour:02}:00:00",
        f"{month}-{day:02} {hour:02}:{minutes:02}:00",
        chance.choices(COUNTS, cum_weights=WEIGHTS)[0],
        f"{chance.randint(10, 2000) / 100:.2f}",
        str(chance.randint(1, 4)),
        f"{fare:.2f}",
        f"{tip:.2f}",
        f"{fare + tip:.2f}",
    ]


def main(folder: Annotated[Path, typer.Argument(metavar="DIR")], months: Months = 12, trips: Trips = 10_000) -> None:
    """Write made-up taxi trips into a directory, a file a month."""
    write_months(folder, months, trips)


if __name__ == "__main__":
    typer.run(main)
