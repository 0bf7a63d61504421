"""The taxi agency's files as they are.

CSV with three styles of headers, blank lines, quotes, rows that are too short, empty values, packed or not; and Parquet,
as published since 2022.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from typing import Protocol

from sshmap.functions import Input

#: by our name, what the years call it, without blanks, quotes and capitals
COLUMNS = {
    "pickup": ("trip_pickup_datetime", "pickup_datetime", "tpep_pickup_datetime"),
    "passengers": ("passenger_count",),
    "distance": ("trip_distance",),
    "payment": ("payment_type",),
    "total": ("total_amt", "total_amount"),
}


class Named(Protocol):
    """Files whose names are known."""

    def has(self, pattern: str) -> bool:
        """Say whether a name among them is matched by a pattern."""


def packages(files: Named) -> list[str]:
    """Return the packages that hosts need for some files."""
    return ["pyarrow>=17"] if files.has("*.parquet") else []


def trips(rows: Input, *columns: str, every: int = 1) -> Iterator[list[str]]:
    """Go through the trips of a file, or some of them; of each the values of some columns as text, by the names of `COLUMNS`.

    Args:
        rows: the file.
        columns: the columns.
        every: of so many trips, one is taken.

    Raises:
        ValueError: the file does not have such a column.
    """
    if is_parquet(rows):
        yield from itertools.islice(_trips_of_parquet(rows, columns), 0, None, every)
        return
    # what is passed over need not be taken apart
    lines = (
        rows.csv(skipinitialspace=True) if every == 1 else csv.reader(_some(rows.lines(), every), skipinitialspace=True)
    )
    header = next(lines, [])
    places = [place(header, column) for column in columns]
    for row in lines:
        # a row that is narrower than the header is no trip
        if len(row) >= len(header):
            yield [row[place].strip() for place in places]


def _some(lines: Iterator[str], every: int) -> Iterator[str]:
    """Go through the first line, and some of the others."""
    return itertools.chain(itertools.islice(lines, 1), itertools.islice(lines, 0, None, every))


def is_parquet(rows: Input) -> bool:
    """Say whether a file is one of Parquet."""
    with open(rows.path, "rb") as file:
        return file.read(4) == b"PAR1"


def _trips_of_parquet(rows: Input, columns: tuple[str, ...]) -> Iterator[list[str]]:
    from pyarrow import parquet  # only hosts with such a file need it

    file = parquet.ParquetFile(rows.path)
    header = file.schema_arrow.names
    names = [header[place(header, column)] for column in columns]
    for batch in file.iter_batches(columns=names):
        for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            yield list(map(_text, row))


def _text(value: object) -> str:
    """Write a value as the CSV files do: counts are whole numbers, what is missing is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def place(header: list[str], column: str) -> int:
    """Return where a column stands."""
    names = [name.strip().lower() for name in header]
    found = [names.index(name) for name in COLUMNS[column] if name in names]
    if not found:
        raise ValueError(f"no column {' or '.join(COLUMNS[column])} in the header: {','.join(header)}")
    return found[0]
