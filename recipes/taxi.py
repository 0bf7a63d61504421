"""The taxi agency's CSV files as they are: three styles of headers, blank lines, quotes, rows that are too short, empty values."""

from __future__ import annotations

from collections.abc import Iterator

from sshmap.functions import Input

#: by our name, what the years call it, without blanks, quotes and capitals
COLUMNS = {
    "pickup": ("trip_pickup_datetime", "pickup_datetime", "tpep_pickup_datetime"),
    "passengers": ("passenger_count",),
    "distance": ("trip_distance",),
    "payment": ("payment_type",),
    "total": ("total_amt", "total_amount"),
}


def trips(rows: Input, *columns: str) -> Iterator[list[str]]:
    """Go through the trips of a file; of each the values of some columns, by the names of `COLUMNS`.

    Raises:
        ValueError: the file does not have such a column.
    """
    lines = rows.csv(skipinitialspace=True)
    header = [name.strip().lower() for name in next(lines, [])]
    places = [place(header, column) for column in columns]
    for row in lines:
        # a row that is narrower than the header is no trip
        if len(row) >= len(header):
            yield [row[place].strip() for place in places]


def place(header: list[str], column: str) -> int:
    """Return where a column stands."""
    found = [header.index(name) for name in COLUMNS[column] if name in header]
    if not found:
        raise ValueError(f"no column {' or '.join(COLUMNS[column])} in the header: {','.join(header)}")
    return found[0]
