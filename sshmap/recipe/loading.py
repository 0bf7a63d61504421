"""Loading a table into SQLite: all rows in one transaction, each inserted or, where its keys are there, replaced (an upsert).

So it may be done again, stopped anywhere: what is there afterwards is what one undisturbed time gives.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from sshmap.errors import Refused, UsageError

Rows = Sequence[dict[str, object]]
_TEXT = "TEXT"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


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


def load(path: Path, into: Into, rows: Rows, *, migrate: bool = False) -> int:
    """Load rows into a table of a database, which are made if they are not there; return how many rows the table has then.

    Args:
        path: the database.
        into: the table, and its keys.
        rows: all with the same columns.
        migrate: add columns that the table does not have.

    Raises:
        UsageError: a row has no value in a key, or two rows have the same keys; or the database cannot be written.
        Refused: the table has other columns, keys or types.
    """
    if rows:
        _check_keys(into, rows)
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30.0)) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                count = _loaded(db, into, rows, migrate=migrate)
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise
    except sqlite3.Error as exc:
        raise UsageError(f"cannot load into {path}: {exc}", hint="--database names another file") from exc
    return count


def _check_keys(into: Into, rows: Rows) -> None:
    into.check(list(rows[0]))
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        keys = tuple(row[key] for key in into.keys)
        if None in keys or keys in seen:
            what = "lacks a key" if None in keys else "has the keys of another one"
            raise UsageError(
                f"a row for table {into.table} {what}: {row}",
                hint=f"its keys are {', '.join(into.keys)}; nothing was loaded",
            )
        seen.add(keys)


def _loaded(db: sqlite3.Connection, into: Into, rows: Rows, *, migrate: bool) -> int:
    """Load rows within a transaction, and return how many the table has then."""
    present = {name: (kind, bool(key)) for _, name, kind, _, _, key in db.execute(f'PRAGMA table_info("{into.table}")')}
    if not rows and not present:
        return 0
    if rows:
        wanted = {name: _kind([row[name] for row in rows]) for name in rows[0]}
        if present:
            _fit(db, into, wanted, present, migrate=migrate)
        else:
            db.execute(_create(into, wanted))
        db.executemany(_upsert(into, list(wanted)), (tuple(row.values()) for row in rows))
    return int(db.execute(f'SELECT count(*) FROM "{into.table}"').fetchone()[0])  # noqa: S608  # the name was checked


def _upsert(into: Into, columns: list[str]) -> str:
    others = [f'"{name}" = excluded."{name}"' for name in columns if name not in into.keys]
    what = f"UPDATE SET {', '.join(others)}" if others else "NOTHING"
    places = ", ".join("?" * len(columns))
    return f'INSERT INTO "{into.table}" ({_listed(columns)}) VALUES ({places}) ON CONFLICT ({_listed(into.keys)}) DO {what}'  # noqa: S608


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _create(into: Into, wanted: dict[str, str]) -> str:
    columns = [f'"{name}" {kind or _TEXT}{" NOT NULL" * (name in into.keys)}' for name, kind in wanted.items()]
    return f'CREATE TABLE "{into.table}" ({", ".join(columns)}, PRIMARY KEY ({_listed(into.keys)}))'


def _kind(values: list[object]) -> str:
    """Return the type of a column with some values; nothing if there are none."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return ""
    if kinds == {int}:
        return "INTEGER"
    return "REAL" if kinds <= {int, float} else _TEXT


def _fit(
    db: sqlite3.Connection, into: Into, wanted: dict[str, str], present: dict[str, tuple[str, bool]], *, migrate: bool
) -> None:
    """Add the columns that are missing, if that is wanted; all else has to be as it is.

    Raises:
        Refused: it is not.
    """
    new = [name for name in wanted if name not in present]
    if differences := [
        *_differences(into, wanted, present),
        *([] if migrate else [f"new column {name}" for name in new]),
    ]:
        raise Refused(
            f"table {into.table} does not fit: {'; '.join(differences)}",
            hint="--migrate adds new columns; for all else choose another table, or change this one by hand",
        )
    for name in new:
        db.execute(f'ALTER TABLE "{into.table}" ADD COLUMN "{name}" {wanted[name] or _TEXT}')


def _differences(into: Into, wanted: dict[str, str], present: dict[str, tuple[str, bool]]) -> Iterator[str]:
    """Say what is not as it is wanted, but for new columns."""
    for name, (kind, _) in present.items():
        if name not in wanted:
            yield f"column {name} is gone"
        elif not _holds(kind, wanted[name]):
            yield f"column {name} is {kind}, its values are {wanted[name]}"
    keys = [name for name, (_, key) in present.items() if key]
    if set(keys) != set(into.keys):
        yield f"the keys are {', '.join(keys)}"


def _holds(kind: str, values: str) -> bool:
    """Say whether a column of one type holds values of another one unchanged, or as text where it is one of text."""
    return values in {"", kind} or kind == _TEXT or (kind, values) == ("REAL", "INTEGER")
