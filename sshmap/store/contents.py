"""Opening a key's file together with the row that belongs to it, and comparing the two.

The file is opened first, then the row is read. If the row is another file's, or the file is missing, both are looked up
again under the write lock, without which no file is moved. So a key is called damaged only if it is.
"""

from __future__ import annotations

import contextlib
import os

from sshmap.errors import DigestMismatch, NothingMatched, Refused
from sshmap.model import show, typed
from sshmap.store.digest import digest_fd
from sshmap.store.files import KeyFiles
from sshmap.store.keys import Keys, Row
from sshmap.store.ledger import Ledger
from sshmap.store.seal import Seal
from sshmap.store.swaps import Swaps


class Contents:
    """The contents of one host's keys. All methods work outside any transaction.

    Args:
        ledger: an open ledger.
        keys: its keys.
        files: their files.
        swaps: the ledger's intentions.
    """

    def __init__(self, ledger: Ledger, keys: Keys, files: KeyFiles, swaps: Swaps) -> None:
        self._ledger, self._keys, self._files, self._swaps = ledger, keys, files, swaps

    def open(self, name: str) -> tuple[int, Row]:
        """Open a key's file and read the row that belongs to it, also while the key is being swapped.

        Raises:
            NothingMatched: there is no such key.
            DigestMismatch: its file is missing.
        """
        with contextlib.suppress(DigestMismatch):
            fd, row = self._open(name)
            if Seal.of(os.fstat(fd)).inode == row.inode:
                return fd, row
            os.close(fd)
        with self._ledger.change():
            self._swaps.settle(name)
            return self._open(name)

    def _open(self, name: str) -> tuple[int, Row]:
        try:
            fd = self._files.open(name)
        except DigestMismatch:
            if self._keys.get(name) is None:
                raise no_such_key(name) from None
            raise
        row = self._keys.get(name)
        if row is None:
            os.close(fd)
            raise no_such_key(name)
        return fd, row

    def open_whole(self, name: str) -> tuple[int, Row]:
        """Open a key whose content is as its row says; return descriptor and row.

        Raises:
            NothingMatched: there is no such key.
            DigestMismatch: it is damaged.
        """
        fd, row = self.open(name)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, fd)
            if not is_whole(fd, row):
                raise damaged(name)
            undo.pop_all()
        return fd, row

    def check(self, row: Row) -> Seal:
        """Check that a key has the content of a row that was read before; return its file's seal, for `recheck`.

        Raises:
            DigestMismatch: it is damaged.
            Refused: it was swapped since the row was read.
        """
        # if the key was swapped after the row was read, the row's seal is not that of its file
        now = self._files.seal(row.name)
        if now is not None and now == row.seal and now.fresh:
            return now
        fd, present = self.open_whole(row.name)
        try:
            if present.digest != row.digest:
                raise Refused(f"{show(row.name)} was changed meanwhile", hint="run the command again")
            return Seal.of(os.fstat(fd))
        finally:
            os.close(fd)

    def recheck(self, row: Row, before: Seal) -> None:
        """Check that a key has not changed while a command read it.

        Raises:
            DigestMismatch: something other than sshmap changed or deleted it.
            Refused: it was swapped.
        """
        if self._files.seal(row.name) != before:
            try:
                self.check(row)
            except DigestMismatch as exc:
                raise DigestMismatch(
                    f"{show(row.name)} was changed or deleted while a command worked on it", hint=exc.hint
                ) from exc


def is_whole(fd: int, row: Row) -> bool:
    """Say whether an open file has the content that its row says; it is read unless its seal holds."""
    seal = Seal.of(os.fstat(fd))
    if seal == row.seal and seal.fresh:
        return True
    try:
        return seal.size == row.size and digest_fd(fd) == (row.size, row.digest)
    except OSError:
        # a file that the disk cannot read counts as damaged
        return False


def no_such_key(name: str) -> NothingMatched:
    """Return the error for a name that is not a key."""
    return NothingMatched(f"no such key: {show(name)}", hint="sshmap ls shows what there is")


def damaged(name: str) -> DigestMismatch:
    """Return the error for a key whose content does not match its digest."""
    return DigestMismatch(
        f"{show(name)}: content does not match its digest",
        hint=f"{typed('sshmap', 'rm', show(name))}, then make or copy it again",
    )
