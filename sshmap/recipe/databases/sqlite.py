"""A database in a file of SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from typing import ClassVar

from sshmap.errors import UsageError
from sshmap.recipe.databases import PATIENCE, Cursor, in_use


class SQLite:
    """A file, which is made if it is not there.

    Args:
        name: its path.
    """

    mark: ClassVar[str] = "?"
    types: ClassVar[Mapping[type, str]] = {int: "INTEGER", float: "REAL", str: "TEXT"}

    def __init__(self, name: str) -> None:
        self.name = name

    @contextlib.contextmanager
    def transaction(self, table: str) -> Iterator[Cursor]:  # noqa: ARG002  # all tables are locked
        """See `Database`; SQLite itself has others wait."""
        try:
            with contextlib.closing(sqlite3.connect(self.name, isolation_level=None, timeout=PATIENCE)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection.cursor()
                connection.execute("COMMIT")
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise in_use(self.name) from exc
            raise UsageError(f"cannot load into {self.name}: {exc}", hint="--database names another file") from exc

    def columns(self, cursor: Cursor, table: str) -> list[tuple[str, str, bool]]:
        """See `Database`."""
        cursor.execute("SELECT name, type, pk > 0 FROM pragma_table_info(?)", (table,))
        return cursor.fetchall()
