"""The ledger: one SQLite database per host, shared by all its processes.

WAL mode, one connection per process and thread, `BEGIN IMMEDIATE` for every change.
`synchronous=NORMAL`: a killed process loses nothing; a power cut may lose the newest
commits, and digests find what it damaged. The tables are drawn in `schema`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sshmap.errors import DigestMismatch, HostNotReady, NoSpace, Refused
from sshmap.store import locks
from sshmap.store.layout import Root, remove_tree
from sshmap.store.schema import OLDEST, SCHEMA, STEPS, VERSION

BUSY_SECONDS = 60.0


class Ledger:
    """One connection to a host's ledger.

    Args:
        root: the host's root; its directories must exist.

    Raises:
        Refused: the ledger was written by a later version, or by one that is too old.
        DigestMismatch: the ledger file is damaged.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        with mapped(root):
            # the journal first: another process may be making the ledger now, and its journal appears after the ledger
            journal = root.ledger.with_name(f"{root.ledger.name}-wal").exists()
            if not root.ledger.exists():
                if journal:
                    raise sqlite3.DatabaseError("it is missing, but its journal is there")
                _make(root)
            self.db = _connect(root.ledger)
            try:
                self.id = self._prepare()
            except BaseException:
                self.db.close()
                raise

    def _prepare(self) -> str:
        """Set up the connection and bring the ledger up to date; return the ledger's id."""
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("PRAGMA journal_size_limit=67108864")
        self._migrate()
        return str(self.db.execute("SELECT value FROM meta WHERE name='id'").fetchone()[0])

    def _migrate(self) -> None:
        """Bring an older ledger up to date, step by step, in one transaction.

        Raises:
            Refused: it is too old for that, or of a later version.
        """
        version = self._version()
        if version == 0:
            raise sqlite3.DatabaseError("it is empty")
        if not OLDEST <= version <= VERSION:
            raise _other_version(self.root, version)
        if version < VERSION:
            with self.change() as db:
                for number in range(self._version() + 1, VERSION + 1):
                    for statement in statements(STEPS[number]):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version={number}")

    def _version(self) -> int:
        return int(self.db.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it happens, or nothing.

        Raises:
            NoSpace: the disk is full.
            DigestMismatch: the ledger file is damaged.
        """
        with mapped(self.root):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def bump(self) -> None:
        """Count a change of the set of keys; within the transaction that makes it."""
        self.db.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")

    def generation(self) -> str:
        """Name of the present set of keys: the ledger's id and a count of changes."""
        return f"{self.id}:{self.db.execute('SELECT value FROM meta WHERE name = ?', ('generation',)).fetchone()[0]}"

    def data_version(self) -> int:
        """A number that changes when another connection commits; costs microseconds."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def empty_journal(self) -> None:
        """Move what is in the journal into the ledger, as far as the disk has room, so that its space is free again."""
        with contextlib.suppress(sqlite3.OperationalError):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connection."""
        self.db.close()


def needs_migration(root: Root) -> bool:
    """Say whether opening the ledger will bring it up to date; one that is not there or cannot be read will not be."""
    if not root.ledger.exists():
        return False
    with mapped(root), contextlib.closing(_connect(root.ledger)) as db:
        return OLDEST <= int(db.execute("PRAGMA user_version").fetchone()[0]) < VERSION


def _other_version(root: Root, version: int) -> Refused:
    if version > VERSION:
        return Refused(f"{root.ledger} has version {version}, this sshmap knows {VERSION}", hint="use the newer sshmap")
    return Refused(
        f"{root.ledger} was written by an earlier sshmap (version {version}), which this one does not read",
        hint="remove it with that sshmap, sshmap down --purge, or give the host another root",
    )


def statements(script: str) -> Iterator[str]:
    """Go through the statements of a script one by one; a trigger is one statement with others inside."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _make(root: Root) -> None:
    """Make an empty ledger in a scratch directory, then link it to its name, unless another process was faster.

    Rejected: to make it in its place. A process that turns on WAL mode there while another does is told at
    once that the database is locked, whatever its busy timeout.
    """
    scratch = locks.scratch_dir(root)
    try:
        fresh = scratch / root.ledger.name
        with contextlib.closing(_connect(fresh)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT")
        with contextlib.suppress(FileExistsError):
            root.ledger.hardlink_to(fresh)
    finally:
        remove_tree(scratch)


@contextlib.contextmanager
def mapped(root: Root) -> Iterator[None]:
    """Turn SQLite's and the system's errors into sshmap's."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        text = str(exc)
        if "full" in text:
            raise NoSpace(
                f"no space left for {root.ledger}", hint="free some space, for example with sshmap rm -r"
            ) from exc
        raise HostNotReady(
            f"{root.ledger}: {text}", hint="see whether the root is there and writable: sshmap health"
        ) from exc
    except sqlite3.DatabaseError as exc:
        raise DigestMismatch(
            f"{root.ledger} is damaged: {exc}", hint="move the root away and load its keys again"
        ) from exc
