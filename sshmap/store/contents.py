"""What keys hold: a file and its row, opened so that they belong together, and held against each other.

The file is opened first, then the row is read. Where that is not the row of this file, or the file is missing, both are
looked up again under the write lock, as files are moved only by who holds it. So only what is damaged is called that.
"""

from __future__ import annotations

import contextlib
import os

from sshmap.errors import DigestMismatch, NothingMatched, Refused
from sshmap.model import show
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
        swaps: what is being swapped.
    """

    def __init__(self, ledger: Ledger, keys: Keys, files: KeyFiles, swaps: Swaps) -> None:
        self._ledger, self._keys, self._files, self._swaps = ledger, keys, files, swaps

    def open(self, name: str) -> tuple[int, Row]:
        """Open a key's file and read the row that belongs to it, whatever is swapped meanwhile.

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
        """Find out that a key is what its row, read before, says; return its seal for `recheck`.

        Raises:
            DigestMismatch: it is damaged.
            Refused: it was swapped since the row was read.
        """
        # a row that was read before its file is looked at may be an older one, whose seal does not hold then
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
        """Find out whether a key that a command has worked on is still what it was.

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
        # a disk that cannot read its file lacks it
        return False


def no_such_key(name: str) -> NothingMatched:
    """Say that there is no key of this name."""
    return NothingMatched(f"no such key: {show(name)}", hint="sshmap ls shows what there is")


def damaged(name: str) -> DigestMismatch:
    """Say that a key is not what it was."""
    return DigestMismatch(
        f"{show(name)}: content does not match its digest",
        hint=f"sshmap rm {show(name)}, then make or copy it again",
    )
