"""The ledger: one SQLite database per host, shared by all its processes.

WAL mode, one connection per process and thread, `BEGIN IMMEDIATE` for every change.
`synchronous=NORMAL`: a killed process loses nothing; a power cut may lose the newest
commits, and digests find what it damaged. The tables are drawn in `SCHEMA`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sshmap.errors import DigestMismatch, HostNotReady, NoSpace, Refused
from sshmap.store import locks
from sshmap.store.layout import Root, remove_tree

VERSION = 2
BUSY_SECONDS = 60.0
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('id', lower(hex(randomblob(8)))), ('generation', 0);
-- a key exists if and only if it has a row here
CREATE TABLE keys (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, digest BLOB NOT NULL, mtime INTEGER NOT NULL,
    maker BLOB, inputs BLOB, inode INTEGER NOT NULL, ctime INTEGER NOT NULL
) WITHOUT ROWID;
-- what receipts refer to: verb, command and shipped files, as JSON
CREATE TABLE makers (id BLOB PRIMARY KEY, spec BLOB NOT NULL) WITHOUT ROWID;
-- files to unlink unless a new row has come for them
CREATE TABLE garbage (name TEXT PRIMARY KEY) WITHOUT ROWID;
-- keys about to be swapped: by whom, which file will be moved to the name, and what its row will be
CREATE TABLE swaps (
    name TEXT NOT NULL, owner TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL, mtime INTEGER NOT NULL,
    maker BLOB, inputs BLOB, inode INTEGER NOT NULL, PRIMARY KEY (name, owner)
) WITHOUT ROWID;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, verb TEXT NOT NULL, indir TEXT NOT NULL, outdir TEXT NOT NULL, maker BLOB NOT NULL,
    run INTEGER NOT NULL, submitted INTEGER NOT NULL, kept INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, job TEXT NOT NULL, output TEXT NOT NULL, members TEXT NOT NULL, inputs BLOB NOT NULL,
    run INTEGER NOT NULL, replaces INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'queued',
    slot INTEGER, attempt INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0,
    kind TEXT, message TEXT, exit_code INTEGER, stale INTEGER NOT NULL DEFAULT 0, UNIQUE (job, output)
);
CREATE INDEX tasks_active ON tasks (state, id) WHERE state IN ('queued', 'running', 'sending');
-- fan-out files on their way; the file is tmp/outbox/<id>, so an id must never come back
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, task INTEGER NOT NULL, peer TEXT NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, digest BLOB NOT NULL, maker BLOB NOT NULL, inputs BLOB NOT NULL, replaces INTEGER NOT NULL
);
CREATE INDEX outbox_peer ON outbox (peer, id);
CREATE INDEX outbox_task ON outbox (task);
-- what each finished fan-out task has put around the cluster
CREATE TABLE fanouts (
    output TEXT PRIMARY KEY, maker BLOB NOT NULL, inputs BLOB NOT NULL, count INTEGER NOT NULL, names BLOB NOT NULL
) WITHOUT ROWID;
-- peers the courier cannot reach, and why
CREATE TABLE stuck (peer TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
"""


class Ledger:
    """One connection to a host's ledger.

    Args:
        root: the host's root; its directories must exist.

    Raises:
        Refused: the ledger was written by a later version.
        DigestMismatch: the ledger file is damaged.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        with mapped(root):
            # in this order: another process may be making the ledger, and its journal comes after it
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
        version = self._version()
        if version == 0:
            raise sqlite3.DatabaseError("it is empty")
        if version < VERSION:
            self.db.execute("BEGIN IMMEDIATE")
            version = self._version()
            if version == 1:
                self._give_outbox_digests()
            self.db.execute(f"PRAGMA user_version={max(version, VERSION)}")
            self.db.execute("COMMIT")
        if version > VERSION:
            raise Refused(
                f"{self.root.ledger} has version {version}, this sshmap knows {VERSION}", hint="use the newer sshmap"
            )

    def _give_outbox_digests(self) -> None:
        """Files that wait without one are made again; what they leave goes with the daemon's next start."""
        columns = {column[1] for column in self.db.execute("PRAGMA table_info(outbox)")}
        if "digest" not in columns:
            self.db.execute("UPDATE tasks SET state = 'queued' WHERE state = 'sending'")
            self.db.execute("DELETE FROM outbox")
            self.db.execute("ALTER TABLE outbox ADD COLUMN digest BLOB NOT NULL DEFAULT x''")

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


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _make(root: Root) -> None:
    """Make an empty ledger aside and give it its name in one step; another process may be faster.

    Rejected: to make it in its place. Who turns on WAL mode there while another does is told at
    once that the database is locked, however long it would wait.
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
