"""A database of a PostgreSQL server, which psycopg speaks to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from sshmap.errors import UsageError
from sshmap.recipe.databases import PATIENCE, Cursor, in_use

#: of a connection: seconds until it is made, and until a server that has become silent is given up
_LIMITS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}
#: a statement sees what others have committed while the one before it waited for the lock
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
#: two that find no table would both make it
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('sshmap loads ' || %s, 0))"
_COLUMNS = """
    SELECT attname, upper(format_type(atttypid, atttypmod)), coalesce(attnum = ANY (indkey), false)
    FROM pg_attribute LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
    WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""


class PostgreSQL:
    """One of a server's databases.

    Args:
        address: where it is, and who logs in.
        name: the same without what is secret.

    Raises:
        UsageError: the address has parts that PostgreSQL does not know.
    """

    mark: ClassVar[str] = "%s"
    types: ClassVar[Mapping[type, str]] = {int: "BIGINT", float: "DOUBLE PRECISION", str: "TEXT"}

    def __init__(self, address: str, name: str) -> None:
        self.name, self._address = name, address
        try:
            conninfo_to_dict(address)
        except psycopg.Error:
            # not what is wrong with it, as that has parts of the password in it
            raise UsageError(
                f"--database {name}: PostgreSQL cannot read the address or its options",
                hint="a % in a password is written %25, and options are those of libpq, such as ?sslmode=require",
            ) from None

    @contextlib.contextmanager
    def transaction(self, table: str) -> Iterator[Cursor]:
        """See `Database`."""
        try:
            with contextlib.closing(self._connect()) as connection:
                cursor = connection.cursor()
                cursor.execute(_BEGIN)
                cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
                cursor.execute(_LOCK, (table,))
                yield cursor
                cursor.execute("COMMIT")
        except psycopg.errors.LockNotAvailable as exc:
            raise in_use(self.name) from exc
        except psycopg.Error as exc:
            raise UsageError(
                f"cannot load into {self.name}: {_line(exc)}",
                hint="nothing is half loaded: mend it, then type the same again",
            ) from exc

    def _connect(self) -> psycopg.Connection:
        """Log in.

        Raises:
            UsageError: that does not work.
        """
        try:
            return psycopg.connect(self._address, autocommit=True, client_encoding="utf8", **_LIMITS)
        except psycopg.OperationalError as exc:
            raise UsageError(
                f"cannot load into {self.name}: {_line(exc)}",
                hint=f"see whether this works: psql '{self.name}'; a password may also lie in PGPASSWORD or ~/.pgpass",
            ) from exc

    def columns(self, cursor: Cursor, table: str) -> list[tuple[str, str, bool]]:
        """See `Database`."""
        cursor.execute(_COLUMNS, (table,))
        return cursor.fetchall()


def _line(exc: psycopg.Error) -> str:
    """Return what went wrong, without the lines of advice below it."""
    return str(exc).strip().split("\n", 1)[0]
