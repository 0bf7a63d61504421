"""Loading a table into a database: all rows in one transaction, each inserted or, where its keys are there, replaced (an upsert).

So it may be done again, stopped anywhere: what is there afterwards is what one undisturbed time gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from sshmap.errors import Refused, UsageError
from sshmap.recipe.databases import Cursor, Database

Rows = Sequence[dict[str, object]]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
#: so many values go into one statement; SQLite takes 32766
_MOST_VALUES = 10_000
_LARGEST = 2**63


class Into(msgspec.Struct, frozen=True, kw_only=True):
    """Where rows go."""

    #: name of the table in the database
    table: str
    #: columns that tell the rows apart
    keys: tuple[str, ...]

    def check(self, columns: Sequence[str]) -> None:
        """Look whether it makes sense.

        Raises:
            UsageError: a name cannot be one of a table or column, or a key is no column.
        """
        for name in (self.table, *columns):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} is no name for a table or column", hint="it has letters, digits and _ in it"
                )
        if not self.keys or not set(self.keys) <= set(columns):
            raise UsageError(
                f"the keys of table {self.table} are {', '.join(self.keys) or 'missing'}",
                hint=f"name some of its columns: {', '.join(columns)}",
            )


class Column(msgspec.Struct, frozen=True):
    """A column of a table in a database."""

    #: its type, as the database calls it
    type: str
    is_key: bool


def load(database: Database, into: Into, rows: Rows, *, migrate: bool = False) -> int:
    """Load rows into a table of a database, which are made if they are not there; return how many rows the table has then.

    Args:
        database: the database.
        into: the table, and its keys.
        rows: all with the same columns; NaN is no value, and integers of more than 64 bits are text.
        migrate: add columns that the table does not have.

    Raises:
        UsageError: a row has no value in a key, or two rows have the same keys; or the database cannot be written.
        Refused: the table has other columns, keys or types.
        LockHeld: somebody else has been loading into the table for half a minute.
    """
    if rows:
        into.check(list(rows[0]))
    with database.transaction(into.table) as cursor:
        columns = {name: Column(kind, is_key) for name, kind, is_key in database.columns(cursor, into.table)}
        if rows:
            _write(database, cursor, into, rows, columns, migrate=migrate)
        elif not columns:
            return 0
        cursor.execute(f'SELECT count(*) FROM "{into.table}"')  # noqa: S608  # the name was checked
        return int(cursor.fetchall()[0][0])


def _write(
    database: Database, cursor: Cursor, into: Into, rows: Rows, columns: dict[str, Column], *, migrate: bool
) -> None:
    """Make the table fit, and write the rows."""
    kinds = {name: _kind(row[name] for row in rows) for name in rows[0]}
    wanted = {name: database.types[kind] if kind else "" for name, kind in kinds.items()}
    _make_room(database, cursor, into, wanted, columns, migrate=migrate)
    in_python = {kind: python for python, kind in database.types.items()}
    held = {name: in_python.get(columns[name].type, str) if name in columns else kinds[name] or str for name in wanted}
    _upsert(cursor, into, list(held), _values(into, rows, held), database.mark)


def _make_room(
    database: Database,
    cursor: Cursor,
    into: Into,
    wanted: Mapping[str, str],
    columns: dict[str, Column],
    *,
    migrate: bool,
) -> None:
    """Make the table, or add the columns that it lacks."""
    text = database.types[str]
    if columns:
        for name in _new(database, into, wanted, columns, migrate=migrate):
            cursor.execute(f'ALTER TABLE "{into.table}" ADD COLUMN "{name}" {wanted[name] or text}')
    else:
        cursor.execute(_create(into, {name: kind or text for name, kind in wanted.items()}))


def _kind(values: Iterable[object]) -> type | None:
    """Return what is in a column with some values: int, float or str; None if there are none."""
    kinds = {_kind_of(value) for value in values} - {None}
    if len(kinds) <= 1:
        return next(iter(kinds), None)
    return float if kinds == {int, float} else str


def _kind_of(value: object) -> type | None:
    if value is None or value != value:  # noqa: PLR0124  # NaN, which SQLite has as NULL
        return None
    if type(value) is int:
        return int if -_LARGEST <= value < _LARGEST else str
    return float if type(value) is float else str


def _values(into: Into, rows: Rows, held: Mapping[str, type]) -> list[list[object]]:
    """Return the values of each row as its columns hold them.

    Raises:
        UsageError: a row has no keys of its own.
    """
    seen: set[tuple[object, ...]] = set()
    found = []
    for row in rows:
        values = {name: kind(row[name]) if _kind_of(row[name]) else None for name, kind in held.items()}
        keys = tuple(values[key] for key in into.keys)
        if None in keys or keys in seen:
            what = "lacks a key" if None in keys else "has the keys of another one"
            raise UsageError(
                f"a row for table {into.table} {what}: {row}",
                hint=f"its keys are {', '.join(into.keys)}; nothing was loaded",
            )
        seen.add(keys)
        found.append(list(values.values()))
    return found


def _upsert(cursor: Cursor, into: Into, names: list[str], rows: list[list[object]], mark: str) -> None:
    """Insert or replace rows, many with each statement, as DuckDB takes a millisecond for one."""
    others = [f'"{name}" = excluded."{name}"' for name in names if name not in into.keys]
    what = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
    start = f'INSERT INTO "{into.table}" ({_listed(names)}) VALUES '  # noqa: S608  # the names were checked
    end = f" ON CONFLICT ({_listed(into.keys)}) DO {what}"
    marks = f"({', '.join([mark] * len(names))})"
    most = max(1, _MOST_VALUES // len(names))
    for first in range(0, len(rows), most):
        some = rows[first : first + most]
        cursor.execute(start + ", ".join([marks] * len(some)) + end, [value for row in some for value in row])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _create(into: Into, types: Mapping[str, str]) -> str:
    columns = [f'"{name}" {kind}{" NOT NULL" * (name in into.keys)}' for name, kind in types.items()]
    return f'CREATE TABLE "{into.table}" ({", ".join(columns)}, PRIMARY KEY ({_listed(into.keys)}))'


def _new(
    database: Database, into: Into, wanted: Mapping[str, str], columns: Mapping[str, Column], *, migrate: bool
) -> list[str]:
    """Return the columns that are to be added; all else has to be as it is.

    Raises:
        Refused: it is not, or columns are missing and not to be added.
    """
    new = [name for name in wanted if name not in columns]
    if differences := [
        *_differences(database, into, wanted, columns),
        *([] if migrate else [f"new column {name}" for name in new]),
    ]:
        raise Refused(
            f"table {into.table} does not fit: {'; '.join(differences)}",
            hint="--migrate adds new columns; for all else choose another table, or change this one by hand",
        )
    return new


def _differences(
    database: Database, into: Into, wanted: Mapping[str, str], columns: Mapping[str, Column]
) -> Iterator[str]:
    """Say what is not as it is wanted, but for new columns."""
    for name, column in columns.items():
        if name not in wanted:
            yield f"column {name} is gone"
        elif not _holds(database, column.type, wanted[name]):
            yield f"column {name} is {column.type}, its values are {wanted[name]}"
    keys = [name for name, column in columns.items() if column.is_key]
    if set(keys) != set(into.keys):
        yield f"the keys are {', '.join(keys) or 'missing'}"


def _holds(database: Database, column: str, values: str) -> bool:
    """Say whether a column of one type holds values of another one unchanged, or as text where it is one of text."""
    types = database.types
    return values in {"", column} or column == types[str] or (column, values) == (types[float], types[int])
