"""Reading every key's file whole and against its digest, whatever its seal says. Changes nothing.

A key is called damaged only if it is. Its file and the row that belongs to it are opened together (see `contents`), and
when they do not match, the row is read again: a key that was deleted or swapped meanwhile is passed over or read anew.
What the process lacks, as descriptors or memory, says nothing about a file and is an error.

The content is read from the disk and not from the system's memory, as far as the system lets go of what it holds there;
and it does not stay there, so that reading everything does not push out what commands need.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator
from typing import NamedTuple

from sshmap.errors import DigestMismatch, HostNotReady, NothingMatched
from sshmap.model import Damage, show
from sshmap.store.commit import Store
from sshmap.store.digest import CHUNK, Hasher
from sshmap.store.keys import Row
from sshmap.store.seal import Seal

#: times that a key is read anew because it was swapped while it was read; one that is swapped so often is passed over
_TRIES = 10
#: what a failed system call says about the process, and not about the file
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}


class Found(NamedTuple):
    """A damaged key, as it was found."""

    row: Row
    #: its file's, None if that is missing
    seal: Seal | None

    @property
    def damage(self) -> Damage:
        """What is told of it."""
        return Damage(self.row.name, self.row.size, missing=self.seal is None)


class Step(NamedTuple):
    """One piece of a key that was read."""

    name: str
    #: bytes
    size: int = 0
    #: whether it was the last piece
    ended: bool = False
    #: whether the key was read whole; not if it is gone
    read: bool = False
    found: Found | None = None


def read_keys(store: Store, prefix: str, after: str = "", piece: int = CHUNK) -> Iterator[Step]:
    """Read all keys that start with a prefix, in the order of names, piece by piece.

    Args:
        store: the host's keys.
        prefix: what the names start with.
        after: skip all up to and with this name.
        piece: most bytes in a step.

    Raises:
        HostNotReady: this process lacks what it takes to open or read a file.
    """
    buffer = memoryview(bytearray(max(1, min(piece, CHUNK))))
    for entry in store.keys.scan(prefix, after):
        yield from _read_key(store, entry.name, buffer)


def _read_key(store: Store, name: str, buffer: memoryview) -> Iterator[Step]:
    for _ in range(_TRIES):
        row = store.keys.get(name)
        if row is None:
            break
        seal: Seal | None = None
        try:
            fd, row = store.contents.open(name)
        except NothingMatched:
            break
        except DigestMismatch as exc:
            _check_ours(exc.__cause__, name)
        else:
            try:
                seal = Seal.of(os.fstat(fd))
                whole = yield from _read_file(fd, row, buffer)
            finally:
                os.close(fd)
            if whole:
                yield Step(name, ended=True, read=True)
                return
        if store.keys.get(name) == row:
            yield Step(name, ended=True, read=True, found=Found(row, seal))
            return
    yield Step(name, ended=True)


def _read_file(fd: int, row: Row, buffer: memoryview) -> Generator[Step, None, bool]:
    """Read a file to its end; return whether it has the content that its row says."""
    if os.fstat(fd).st_size != row.size:
        return False
    _let_go(fd)
    hasher = Hasher()
    try:
        while hasher.size <= row.size and (count := os.preadv(fd, [buffer], hasher.size)):
            hasher.update(buffer[:count])
            yield Step(row.name, count)
    except OSError as exc:
        # a file that the disk cannot read counts as damaged
        _check_ours(exc, row.name)
        return False
    _let_go(fd)
    return (hasher.size, hasher.digest) == (row.size, row.digest)


def _let_go(fd: int) -> None:
    """Tell the system to forget a file's content, where there is a way to."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _check_ours(cause: BaseException | None, name: str) -> None:
    """Refuse to judge a file by what the process lacks.

    Raises:
        HostNotReady: it lacks something.
    """
    if isinstance(cause, OSError) and cause.errno in _OURS:
        raise HostNotReady(
            f"{show(name)} cannot be read now: {cause.strerror}", hint="run the command again"
        ) from cause
