"""What is done with a table once its rows are there: they are loaded into a database, and told to somebody.

Both are noted, by a digest of the rows: what was told is not told again, and what is not done yet is a gap.
"""

from __future__ import annotations

import os

import msgspec

from sshmap.cli.printers import Printer
from sshmap.client.cluster import Cluster
from sshmap.errors import CommandsFailed, SshmapError
from sshmap.recipe.databases import Database
from sshmap.recipe.failures import described
from sshmap.recipe.flow import Place
from sshmap.recipe.loading import load
from sshmap.recipe.notes import Notes
from sshmap.recipe.tables import Notice, Rows, Table
from sshmap.store.digest import digest_of


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were loaded or told."""

    #: digest of the rows
    rows: str


class Finishing:
    """Ends the runs of a recipe at one place.

    Args:
        cluster: the cluster.
        place: where the recipe's keys lie.
        printer: says what was done.
        database: where tables are loaded.
        migrate: whether columns are added that the database's table does not have.
    """

    def __init__(self, cluster: Cluster, place: Place, printer: Printer, *, database: Database, migrate: bool) -> None:
        self._printer, self._database, self._migrate = printer, database, migrate
        self._recipe = place.recipe
        self._loaded = Notes(cluster, place, "loaded", Done)
        self._told = Notes(cluster, place, "told", Done)

    def is_pending(self, table: Table, rows: Rows) -> bool:
        """Say whether rows are still to be loaded into the database, or to be told."""
        waits = table.into is not None and self._loaded.get(self._target(table)) != _done(rows)
        return waits or bool(self.untold(table, rows))

    def untold(self, table: Table, rows: Rows) -> list[str]:
        """Return whom rows of a table were not told yet, by the names of the steps."""
        done = _done(rows)
        return [notice.name for notice in table.notices if self._told.get(notice.name) != done]

    def finish(self, table: Table, rows: Rows) -> None:
        """Load rows, and then tell them to whom they were not told yet.

        Raises:
            CommandsFailed: they could not be told.
            SshmapError: they could not be loaded.
        """
        done = _done(rows)
        if table.into:
            count = load(self._database, table.into, rows, migrate=self._migrate)
            self._printer.note(
                f"{table.into.table}: {len(rows)} rows loaded into {self._database.name}, which has {count}"
            )
            self._loaded.write(self._target(table), done)
        for notice in table.notices:
            if self._told.get(notice.name) == done:
                self._printer.note(f"{notice.name}: was done already")
            else:
                self._tell(notice, rows)
                self._told.write(notice.name, done)

    def _target(self, table: Table) -> str:
        """Name a table in a database: of a file, by its whole path."""
        assert table.into, "it is loaded"
        name = self._database.name
        where = name if "://" in name else os.path.abspath(name)
        return f"{table.into.table}-{digest_of(where.encode(errors='surrogateescape')).hex()}"

    def _tell(self, notice: Notice, rows: Rows) -> None:
        try:
            notice.tell(rows)
        except SshmapError:
            raise
        except (Exception, SystemExit) as exc:
            raise CommandsFailed(
                f"{notice.name} of recipe {self._recipe}: {described(exc)}",
                hint="all else is done: the same command does only this again",
            ) from exc
        self._printer.note(f"{notice.name}: done")


def _done(rows: Rows) -> Done:
    return Done(rows=digest_of(msgspec.json.encode(rows, order="sorted")).hex())
