"""Intentions to swap keys: what is noted before a file is moved over that of an existing key.

The move cannot be part of the transaction that changes the row, and the process may be killed between the two. So it
first writes an intention: which file will be moved (by its inode) and what the row will be::

    note      a transaction of its own: the intention stands, nothing else has happened
    commit    one transaction: the file is moved, the row changed, and all intentions of this owner go, used or not
    settle    by the next process that finds the intention, holding the write lock. Files are moved under that lock only.
              So if the intention's file lies at the key's name while the row is another file's, the swap was broken off
              after the move: the intended row is written, receipt and all. If its file does not lie there, nothing
              has happened: the intention is deleted if its owner is gone.

The owner is one `Store` of one process. As long as the process lives, others leave an intention alone whose file was
not moved.
"""

from __future__ import annotations

from collections.abc import Iterable

from sshmap.store import locks
from sshmap.store.files import KeyFiles
from sshmap.store.keys import Keys, Row, packed, receipt_of, unpacked
from sshmap.store.ledger import Ledger


class Swaps:
    """The intentions in one ledger, as one store sees them. All methods work within a transaction of the caller.

    Args:
        ledger: an open ledger.
        keys: its keys.
        files: their files.
    """

    def __init__(self, ledger: Ledger, keys: Keys, files: KeyFiles) -> None:
        self._ledger, self._keys, self._files = ledger, keys, files
        self._owner = locks.process_name()
        #: whether the ledger may hold intentions of this store
        self.noted = False

    def note(self, rows: Iterable[tuple[Row, tuple[str, ...]]]) -> None:
        """Note what rows will be, with the inodes of the files that are ready for them, and the names of their inputs."""
        if self.noted:
            self.settle_own()
        self.noted = True
        for row, members in rows:
            maker, inputs = (row.receipt.maker, row.receipt.inputs) if row.receipt else (None, None)
            self._ledger.db.execute(
                "INSERT INTO swaps (name, owner, size, digest, mtime, maker, inputs, inode, members) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (row.name, self._owner, row.size, row.digest, row.mtime, maker, inputs, row.inode, packed(members)),
            )

    def clear(self) -> None:
        """Delete this store's own intentions, in the transaction that carries them out."""
        self._ledger.db.execute("DELETE FROM swaps WHERE owner = ?", (self._owner,))

    def settle(self, name: str) -> None:
        """Finish or delete the intentions for a key that were broken off."""
        self._settle("name = ?", name)

    def settle_own(self) -> None:
        """Finish or delete this store's own intentions, after a transaction that failed."""
        self._settle("owner = ?", self._owner)
        self.clear()
        self.noted = False

    def settle_all(self) -> None:
        """Finish or delete all intentions that were broken off."""
        self._settle("name >= ?", "")

    def _settle(self, where: str, value: str) -> None:
        query = f"SELECT owner, name, size, digest, mtime, maker, inputs, inode, members FROM swaps WHERE {where}"
        for owner, name, size, digest, mtime, maker, inputs, inode, members in self._ledger.db.execute(
            query, (value,)
        ).fetchall():
            row = Row(name, size, digest, mtime, receipt_of(maker, inputs), inode)
            if self._finish(row, unpacked(members)) or locks.is_gone(owner):
                self._ledger.db.execute("DELETE FROM swaps WHERE name = ? AND owner = ?", (name, owner))

    def _finish(self, row: Row, members: tuple[str, ...]) -> bool:
        """Write an intended row if its file lies at the key's name while the row is another file's; say whether that was so."""
        seal, present = self._files.seal(row.name), self._keys.get(row.name)
        if seal is None or present is None or seal.inode != row.inode or present.inode == row.inode:
            return False
        self._keys.insert(Row(row.name, row.size, row.digest, row.mtime, row.receipt, seal.inode, seal.ctime), members)
        self._ledger.bump()
        return True
