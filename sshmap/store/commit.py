"""Changing files and rows together: the only place where keys are made, swapped and deleted.

Commit: the finished file lies in tmp/, read-only. One transaction moves it into place, notes its
seal in the row and finishes the task. If the process dies before the transaction ends,
a file without a row is left, which is invisible and replaced by the next attempt.

Delete: one transaction deletes the rows and notes the names as garbage; a second one
unlinks each file whose name has no new row. Rejected: to unlink after the first
transaction without a note, which could hit the file of a new key of that name.

Swap: the move cannot be part of the transaction, so the intention is committed first (`swaps`).
"""

from __future__ import annotations

import contextlib
import enum
import os
from collections.abc import Callable, Iterator, Sequence

import msgspec

from sshmap.errors import DigestMismatch, KeyExists, NoSpace, NothingMatched, OtherReceipt, SshmapError
from sshmap.model import Receipt, show, typed
from sshmap.store.contents import Contents, is_whole
from sshmap.store.files import KeyFiles
from sshmap.store.keys import Keys, Row, Total
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.seal import Seal
from sshmap.store.swaps import Swaps
from sshmap.store.wholeness import note_removal


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """A complete file in tmp/ that is to become a key."""

    path: str
    name: str
    size: int
    digest: bytes
    #: when the file was stamped, in seconds since the epoch
    sealed: int
    receipt: Receipt | None = None
    #: names of the inputs that a job made it from
    members: tuple[str, ...] = ()
    #: swap a key that has another receipt or other content
    replace: bool = False
    #: never swap a key that was copied in, whatever `replace` says
    spares: bool = False


class Outcome(enum.Enum):
    """What became of a staged file."""

    #: it is the key now
    FRESH = "fresh"
    #: the key was there, with the same content
    KEPT = "kept"
    #: the key was there, but its file was missing or damaged; this one has taken its place
    REPAIRED = "repaired"


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
        self.swaps = Swaps(self.ledger, self.keys, self.files)
        self.contents = Contents(self.ledger, self.keys, self.files, self.swaps)
        #: keys that `prepare` found damaged, and the seals of their files at that time
        self._damaged: dict[str, Seal | None] = {}
        #: keys about to be swapped, for which an intention was noted
        self._swapping: dict[str, Staged] = {}

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """A write transaction that may swap keys; if it fails after a file was moved, another one writes that file's row."""
        try:
            with self.ledger.change():
                yield
                if self.swaps.noted:
                    self.swaps.clear()
        except BaseException:
            self._settle_own()
            raise
        self.swaps.noted = False

    def _settle_own(self) -> None:
        if self.swaps.noted:
            # if this fails, the next store that finds such an intention settles it
            with contextlib.suppress(SshmapError):
                self.insist(lambda: self._changing(self.swaps.settle_own))

    def _changing(self, change: Callable[[], None]) -> None:
        with self.ledger.change():
            change()

    def prepare(self, items: Sequence[Staged]) -> None:
        """Prepare a commit of some files; outside any transaction, before `committing`.

        Notes an intention for each swap. Keys that exist already may be damaged, so they are read unless their seals hold:
        here and not in the transaction, as other processes wait for that.
        """
        self._damaged.clear()
        self._swapping.clear()
        present = self.keys.receipts([item.name for item in items])
        for item in items:
            if item.name in present:
                if item.replace and not self._is_made(item):
                    self._swapping.setdefault(item.name, item)
                else:
                    self._examine(item.name)
        if self._swapping:
            self._changing(self._note)

    def _is_made(self, item: Staged) -> bool:
        row = self.keys.get(item.name)
        return row is not None and (row.receipt, row.digest) == (item.receipt, item.digest)

    def _note(self) -> None:
        rows = []
        for item in self._swapping.values():
            self.swaps.settle(item.name)
            inode = Seal.of(os.lstat(item.path)).inode
            row = Row(item.name, item.size, item.digest, item.sealed, item.receipt, inode)
            rows.append((row, item.members))
        self.swaps.note(rows)

    def _examine(self, name: str) -> None:
        try:
            fd, row = self.contents.open(name)
        except NothingMatched:
            return
        except DigestMismatch:
            self._damaged[name] = self.files.seal(name)
            return
        try:
            if not is_whole(fd, row):
                self._damaged[name] = Seal.of(os.fstat(fd))
        finally:
            os.close(fd)

    def _is_damaged(self, name: str) -> bool:
        """Say whether a key was found damaged and was not repaired since."""
        return name in self._damaged and self._damaged[name] == self.files.seal(name)

    def commit(self, item: Staged) -> Outcome:
        """Make the file a key; within a transaction.

        Raises:
            KeyExists: the key holds other content.
            OtherReceipt: the key was made by other work, and `replace` is not set.
        """
        row = self.keys.get(item.name)
        outcome = self._decide(row, item) if row else Outcome.FRESH
        if outcome is not Outcome.KEPT:
            repaired = outcome is Outcome.REPAIRED
            receipt = row.receipt if row and repaired else item.receipt
            members = self.keys.members_of(item.name) if repaired else item.members
            seal = self.files.place(item.path, item.name)
            if seal.size != item.size:
                raise DigestMismatch(
                    f"the finished file for {show(item.name)} was changed", hint="run the command again"
                )
            row = Row(item.name, item.size, item.digest, item.sealed, receipt, seal.inode, seal.ctime)
            self.keys.insert(row, members)
        return outcome

    def _decide(self, row: Row, item: Staged) -> Outcome:
        """Decide about a staged file whose key exists."""
        if item.receipt in (row.receipt, None) and row.digest == item.digest:
            return Outcome.REPAIRED if self._is_damaged(item.name) else Outcome.KEPT
        if item.replace and not (item.spares and row.receipt is None):
            if self._swapping.get(item.name) is item:
                return Outcome.FRESH
            raise KeyExists(f"{show(item.name)} was made by others at the same time", hint="run the command again")
        if item.receipt in (row.receipt, None):
            raise KeyExists(
                _exists(row, item, damaged=self._is_damaged(item.name)),
                hint=f"keys do not change; delete it first: {typed('sshmap', 'rm', show(item.name))}",
            )
        raise OtherReceipt(
            f"{show(item.name)} exists and was made by other work",
            hint="run the command with --replace, or delete the key first",
        )

    def remove(self, prefix: str, *, exact: bool = False) -> Total:
        """Delete all keys with a prefix, or one key; return how many there were. Works on a full disk."""
        if exact:
            return self.remove_each([prefix])
        total = self.keys.total(prefix)
        # also where there are none: what a fan-out failed to make there is not missed any more
        if total.keys or self.ledger.db.execute("SELECT 1 FROM runs LIMIT 1").fetchone():
            self.insist(lambda: self._discard(prefix))
        if total.keys:
            self._tidy()
        return total

    def remove_each(
        self, names: Sequence[str], choose: Callable[[Sequence[str]], Sequence[str]] = lambda names: names
    ) -> Total:
        """Delete those of the names that are keys, in one transaction; return how many there were. Works on a full disk.

        Args:
            names: the names.
            choose: within the transaction, returns those that are still to be deleted.
        """
        total = self.keys.total_of([])

        def discard() -> None:
            nonlocal total
            with self.ledger.change():
                chosen = choose(names)
                total = self.keys.total_of(chosen)
                for name in chosen:
                    self.keys.discard(name, exact=True)
                self.ledger.bump()

        if self.keys.total_of(names).keys:
            self.insist(discard)
            self._tidy()
        return total

    def put_aside(self, row: Row, seal: Seal | None) -> str | None:
        """Delete a damaged key and move its file to the quarantine, in one transaction; works on a full disk.

        If the process dies between the two, the key is left without its file, which is found as damage again.

        Args:
            row: the key, as it was found damaged.
            seal: its file's at that time, None if that was missing.

        Returns:
            The file's path below the root, empty if it was missing; None if nothing was done, as key or file are others now.
        """
        where: str | None = None

        def move() -> None:
            nonlocal where
            with self.ledger.change():
                self.swaps.settle(row.name)
                # a first try for which the disk had no room may have moved the file
                if self.keys.get(row.name) == row and (where is not None or self.files.seal(row.name) == seal):
                    where = where or self.files.put_aside(row.name)
                    self.keys.discard(row.name, exact=True)
                    self.ledger.bump()

        self.insist(move)
        if where is not None:
            self._tidy()
        return where

    def _discard(self, prefix: str) -> None:
        with self.ledger.change():
            self.keys.discard(prefix)
            note_removal(self.ledger, prefix)
            self.ledger.bump()

    def _tidy(self) -> None:
        self.insist(self.collect)
        self.root.load_ballast()

    def insist(self, change: Callable[[], object]) -> None:
        """Make a small change to the ledger even if the disk is full, in the space that the ballast reserves for it."""
        try:
            change()
        except NoSpace:
            self.root.ballast.unlink(missing_ok=True)
            self.ledger.empty_journal()
            change()

    def collect(self) -> None:
        """Unlink the files noted as garbage, some in each transaction, so that other processes can write in between."""
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
        """Finish swaps and deletions that a killed process left half done; safe at any time."""
        if self.ledger.db.execute("SELECT 1 FROM swaps UNION ALL SELECT 1 FROM garbage LIMIT 1").fetchone():
            self._changing(self.swaps.settle_all)
            self.collect()

    def close(self) -> None:
        """Close the ledger and all directories."""
        self._settle_own()
        self.files.close()
        self.ledger.close()


def _exists(row: Row, item: Staged, *, damaged: bool) -> str:
    if row.receipt is not None and row.receipt == item.receipt:
        return f"{show(item.name)}: the command gave other content than when it made this key: it is not deterministic"
    state = ", and its file here is damaged" if damaged else ""
    return f"{show(item.name)} exists with other content ({row.size} bytes, not {item.size}){state}"
