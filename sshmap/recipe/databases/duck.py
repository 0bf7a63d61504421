"""A database in a file of DuckDB, and a table in a Parquet file, which DuckDB reads and writes."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import duckdb

from sshmap.errors import Refused, UsageError
from sshmap.recipe.databases import PATIENCE, Cursor, in_use
from sshmap.store.locks import alone

_COLUMNS = """
    SELECT column_name, data_type, coalesce(list_contains(keys, column_name), false)
    FROM duckdb_columns() LEFT JOIN (
        SELECT database_oid, table_oid, constraint_column_names AS keys
        FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'
    ) AS primary_keys USING (database_oid, table_oid)
    WHERE lower(table_name) = lower(?) AND database_name = current_database() AND schema_name = current_schema()
    ORDER BY column_index
"""


class DuckDB:
    """A file, which is made if it is not there; one process at a time can open it.

    Args:
        name: its path.
    """

    mark: ClassVar[str] = "?"
    types: ClassVar[Mapping[type, str]] = {int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}

    def __init__(self, name: str) -> None:
        self.name = name
        #: where it is written, which is elsewhere if the name is one of a link
        self._path = Path(name).resolve()
        self._new = self._path.with_name(f".{self._path.name}.new")

    @contextlib.contextmanager
    def transaction(self, table: str) -> Iterator[Cursor]:  # noqa: ARG002  # the whole file is locked
        """See `Database`."""
        with self._alone():
            if not self._path.exists():
                self._new.unlink(missing_ok=True)
                duckdb.connect(self._new).close()
                os.replace(self._new, self._path)
            with contextlib.closing(duckdb.connect(self._path)) as connection:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the file, by one beside it, and say what goes wrong meanwhile."""
        try:
            with alone(self._path.with_name(f".{self._path.name}.lock"), PATIENCE) as locked:
                if not locked:
                    raise in_use(self.name)
                yield
        except (duckdb.Error, OSError) as exc:
            said = exc.strerror if isinstance(exc, OSError) else str(exc).split("\n", 1)[0]
            raise UsageError(f"cannot load into {self.name}: {said}", hint="--database names another file") from exc

    def columns(self, cursor: Cursor, table: str) -> list[tuple[str, str, bool]]:
        """See `Database`."""
        cursor.execute(_COLUMNS, (table,))
        return cursor.fetchall()


class Parquet(DuckDB):
    """A file with one table, which is read into memory, written anew beside the file, and put in its place.

    Its metadata has the names of the table and of its keys, neither of which Parquet knows.

    Args:
        name: its path.
    """

    @contextlib.contextmanager
    def transaction(self, table: str) -> Iterator[Cursor]:
        """See `Database`."""
        with self._alone(), contextlib.closing(duckdb.connect(":memory:")) as connection:
            if self._path.exists():
                self._read(connection, table)
            yield connection
            if columns := self.columns(connection, table):
                self._write(connection, table, [name for name, _, is_key in columns if is_key])

    def _read(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """Read the table.

        Raises:
            Refused: the file holds another one.
        """
        path = glob.escape(str(self._path))
        connection.execute("SELECT decode(key), decode(value) FROM parquet_kv_metadata(?)", [path])
        kept = dict(connection.fetchall())
        if kept.get("sshmap_table", table) != table:
            raise Refused(
                f"{self.name} holds table {kept['sshmap_table']}, not {table}",
                hint="a Parquet file has one: name another file",
            )
        connection.execute(f'CREATE TABLE "{table}" AS SELECT * FROM read_parquet(?)', [path])  # noqa: S608  # the name was checked
        if kept.get("sshmap_keys"):
            keys = ", ".join(f'"{key}"' for key in kept["sshmap_keys"].replace('"', "").split(","))
            connection.execute(f'ALTER TABLE "{table}" ADD PRIMARY KEY ({keys})')

    def _write(self, connection: duckdb.DuckDBPyConnection, table: str, keys: list[str]) -> None:
        """Write the table, so that whoever reads the file finds the former or the new one, whole."""
        metadata = "KV_METADATA {sshmap_table: ?, sshmap_keys: ?}"
        connection.execute(f'COPY "{table}" TO ? (FORMAT parquet, {metadata})', [str(self._new), table, ",".join(keys)])
        if self._path.exists():
            shutil.copymode(self._path, self._new)
        with self._new.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self._new, self._path)
