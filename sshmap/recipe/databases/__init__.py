"""The databases that tables are loaded into: `Database` is what loading needs of one, and each kind has a module.

Which kind it is follows from its name: an address such as ``postgresql://ana@db.example.org/trips``, a file such as
``trips.duckdb`` or ``trips.parquet``; any other file is one of SQLite. The libraries of PostgreSQL and DuckDB, which not
everybody has installed, are imported when a database of theirs is named, by `postgresql` and `duck` alone.

Rejected: SQLAlchemy, as the kinds differ in no more than a mark, three types and the list of a table's columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import Any, ClassVar, Protocol

from sshmap.errors import LockHeld, UsageError

#: seconds to wait for others who load into the same table
PATIENCE = 30

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:,@/?#\s]*)(?::\d*)?"
#: stricter than libpq, which takes the password of ``u:a@b@host`` to be `a`, and names the rest of it in its messages
_ADDRESS = re.compile(
    rf"(postgres(?:ql)?://)(?:([^:@/?#\s]*)(?::[^@/?#\s]*)?@)?({_HOST}(?:,{_HOST})*(?:/[^@/?#\s]*)?)(?:\?.*)?"
)


class Cursor(Protocol):
    """Where statements are executed, within a transaction; as Python's database interface (PEP 249) has it."""

    def execute(self, statement: str, values: Sequence[object] = ..., /) -> object:
        """Execute a statement."""

    def fetchall(self) -> list[Any]:
        """Return the rows that the last statement gives."""


class Database(Protocol):
    """A database that tables can be loaded into."""

    #: what stands for a value in a statement
    mark: ClassVar[str]
    #: what the database calls the type of a column, by what is in it: int (of 64 bits), float, str
    types: ClassVar[Mapping[type, str]]
    #: what messages call it; without a password
    name: str

    def transaction(self, table: str) -> AbstractContextManager[Cursor]:
        """Open the database and begin a transaction, which is committed at the end; nothing of it is left after an exception.

        Whoever else loads into the table waits meanwhile, for `PATIENCE` at most.

        Args:
            table: what will be loaded.

        Raises:
            UsageError: the database cannot be opened, or refuses a statement.
            LockHeld: somebody else has been loading all the time.
        """

    def columns(self, cursor: Cursor, table: str) -> list[tuple[str, str, bool]]:
        """Return name and type of each column of a table, and whether it is one of its keys; none if there is no such table."""


def named(text: str) -> Database:
    """Return a database, which is not opened yet.

    Args:
        text: its name: an address or a file.

    Raises:
        UsageError: it is no address of PostgreSQL, or what it needs is not installed.
    """
    if scheme := _SCHEME.match(text):
        return _server(text, scheme[1])
    kind = PurePath(text).suffix.lower()
    if kind not in {".duckdb", ".parquet"}:
        from sshmap.recipe.databases.sqlite import SQLite  # as below

        return SQLite(text)
    try:
        from sshmap.recipe.databases.duck import DuckDB, Parquet  # it takes 0.1 s to import
    except ImportError as exc:
        raise _not_installed(text, "duckdb", "duckdb") from exc
    return DuckDB(text) if kind == ".duckdb" else Parquet(text)


def _server(text: str, scheme: str) -> Database:
    """Return a database of a server; messages show of its address neither a password nor options, which may hold one too."""
    found = _ADDRESS.fullmatch(text)
    if not found:
        known = scheme in {"postgres", "postgresql"}
        raise UsageError(
            f"--database {scheme}://…: {'no such address can be read' if known else 'tables are not loaded into such a database'}",
            hint="it is postgresql://USER:PASSWORD@HOST:PORT/NAME, with %40 %2F %3A %3F %23 for @ / : ? # in a password; or a file",
        )
    start, user, rest = found.groups()
    name = f"{start}{f'{user}@' if user else ''}{rest}"
    try:
        from sshmap.recipe.databases.postgresql import PostgreSQL  # it takes 0.1 s to import
    except ImportError as exc:
        raise _not_installed(name, "psycopg", "postgres") from exc
    return PostgreSQL(text, name)


def _not_installed(name: str, library: str, extra: str) -> UsageError:
    return UsageError(
        f"loading into {name} needs {library}, which is not installed",
        hint=f"type: pip install 'sshmap-cluster[{extra}]'",
    )


def in_use(name: str) -> LockHeld:
    """Return the error of a database that others have been using for too long."""
    return LockHeld(
        f"others have been using {name} for {PATIENCE} s", hint="wait until they are done, then type the same again"
    )
