"""Files and rows together: the only place where a key comes into being, changes or goes.

Commit: the finished file lies in tmp/, read-only. One transaction links it into place,
inserts the row and finishes the task. If the process dies before the transaction ends,
a file without a row is left, which is invisible and replaced by the next attempt.

Delete: one transaction takes the rows and notes the names as garbage; a second one
unlinks each file for which no new row has come. Rejected: to unlink after the first
transaction without a note, which could hit the file of a new key of that name.

Swap: the rename cannot be part of the transaction, so the intention is committed first;
`recover` looks at the file's digest and finishes or forgets it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from sshmap.errors import DigestMismatch, KeyExists, NoSpace, OtherReceipt
from sshmap.model import Receipt, show
from sshmap.store.digest import digest_fd
from sshmap.store.files import KeyFiles, is_trusted
from sshmap.store.keys import Keys, Row
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """A file in tmp/ that is complete and wants to become a key."""

    path: Path
    name: str
    size: int
    digest: bytes
    #: when the file was sealed, in seconds since the epoch
    sealed: int
    receipt: Receipt | None = None
    #: swap a key that has another receipt
    replace: bool = False


class Store:
    """Ledger, keys and files of one host, as one process or thread sees them.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self.ledger = Ledger(root)
        self.keys = Keys(self.ledger)
        self.files = KeyFiles(root, lambda name: self.keys.get(name) is not None, self.keys.any_below)

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """A write transaction with swaps in it: if it fails after a swap was made, the key stays whole."""
        try:
            with self.ledger.change():
                yield
        except BaseException:
            self.recover()
            raise

    def open_whole(self, row: Row) -> tuple[int, bytes]:
        """Open a key whose content is as its row says, or as that of a swap; return descriptor and digest.

        Raises:
            DigestMismatch: it is damaged.
        """
        fd = self.files.open(row.name)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, fd)
            trusted = is_trusted(os.fstat(fd), row.size, row.mtime)
            digest = row.digest if trusted else digest_fd(fd)[1]
            if digest != row.digest and not self.stands(row.name, digest):
                raise damaged(row.name)
            undo.pop_all()
        return fd, digest

    def stands(self, name: str, digest: bytes) -> bool:
        """Say whether content is what a key is, or is being swapped for at this moment."""
        query = "SELECT 1 FROM keys WHERE name = ?1 AND digest = ?2 UNION ALL SELECT 1 FROM swaps WHERE name = ?1 AND digest = ?2"
        return self.ledger.db.execute(query, (name, digest)).fetchone() is not None

    def rests(self, name: str, digest: bytes) -> bool:
        """Say whether a key's file that was opened before is what its row says: no swap of it is under way or was made."""
        query = (
            "SELECT 1 FROM keys WHERE name = ?1 AND digest = ?2 AND NOT EXISTS (SELECT 1 FROM swaps WHERE name = ?1)"
        )
        return self.ledger.db.execute(query, (name, digest)).fetchone() is not None

    def prepare(self, item: Staged) -> None:
        """Note a swap that is about to happen, if the commit will be one; outside any transaction."""
        if item.replace and (row := self.keys.get(item.name)) and row.receipt != item.receipt:
            with self.ledger.change() as db:
                db.execute("INSERT OR REPLACE INTO swaps VALUES (?, ?, ?)", (item.name, item.size, item.digest))

    def commit(self, item: Staged) -> bool:
        """Make the file a key; within a transaction. Return whether it is new.

        Raises:
            KeyExists: the key holds other content.
            OtherReceipt: the key was made by other work, and `replace` is not set.
        """
        row = self.keys.get(item.name)
        if row is None:
            self.files.link(item.path, item.name)
        elif self._is_same(row, item):
            return False
        else:
            self.files.swap(item.path, item.name)
            self.ledger.db.execute("DELETE FROM swaps WHERE name = ?", (item.name,))
        self.keys.insert(Row(item.name, item.size, item.digest, item.sealed, item.receipt))
        return True

    def _is_same(self, row: Row, item: Staged) -> bool:
        if row.receipt == item.receipt or item.receipt is None:
            if row.digest == item.digest:
                return True
            raise KeyExists(
                _exists(row, item), hint=f"keys do not change; delete it first: sshmap rm {show(item.name)}"
            )
        if item.replace:
            return False
        raise OtherReceipt(
            f"{show(item.name)} exists and was made by other work",
            hint="run the command with --replace, or delete the key first",
        )

    def remove(self, prefix: str, *, exact: bool = False) -> tuple[int, int]:
        """Delete all keys with a prefix, or one key; return their number and bytes. Works on a full disk."""
        count, size = self.keys.total(prefix, exact=exact)
        if count:
            self.insist(lambda: self._discard(prefix, exact=exact))
            self.insist(self.collect)
            self.root.load_ballast()
        return count, size

    def _discard(self, prefix: str, *, exact: bool) -> None:
        with self.ledger.change():
            self.keys.discard(prefix, exact=exact)
            self.ledger.bump()

    def insist(self, change: Callable[[], None]) -> None:
        """Make a small change to the ledger even if the disk is full, in the space kept for that."""
        try:
            change()
        except NoSpace:
            self.root.ballast.unlink(missing_ok=True)
            change()

    def collect(self) -> None:
        """Unlink the files noted as garbage, some at a time so that others get their turn."""
        while True:
            with self.ledger.change() as db:
                names = [name for (name,) in db.execute("SELECT name FROM garbage LIMIT 500")]
                alive = self.keys.receipts(names)
                for name in names:
                    if name not in alive:
                        self.files.unlink(name)
                db.executemany("DELETE FROM garbage WHERE name = ?", [(name,) for name in names])
            if not names:
                return

    def recover(self) -> None:
        """Finish or forget what a killed process left half done; safe at any time."""
        if self.ledger.db.execute("SELECT 1 FROM swaps UNION ALL SELECT 1 FROM garbage LIMIT 1").fetchone():
            with self.ledger.change() as db:
                for name, size, digest in db.execute("SELECT name, size, digest FROM swaps").fetchall():
                    self._finish_swap(name, size, digest)
                db.execute("DELETE FROM swaps")
            self.collect()

    def _finish_swap(self, name: str, size: int, digest: bytes) -> None:
        row = self.keys.get(name)
        if row is None:
            return
        try:
            fd = self.files.open(name)
        except DigestMismatch:
            # damage of another kind, which whoever reads the key will report
            return
        try:
            if digest_fd(fd) == (size, digest):
                # without a receipt, so that the task's next attempt swaps it again
                self.keys.insert(Row(name, size, digest, int(os.fstat(fd).st_mtime), None))
                self.ledger.bump()
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the ledger and all directories."""
        self.files.close()
        self.ledger.close()


def damaged(name: str) -> DigestMismatch:
    """Say that a key is not what it was."""
    return DigestMismatch(
        f"{show(name)}: content does not match its digest",
        hint=f"sshmap rm {show(name)}, then make or copy it again",
    )


def _exists(row: Row, item: Staged) -> str:
    if row.receipt is not None and row.receipt == item.receipt:
        return f"{show(item.name)}: the command gave other content than when it made this key: it is not deterministic"
    return f"{show(item.name)} exists with other content ({row.size} bytes, not {item.size})"
