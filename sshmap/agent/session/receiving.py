"""Receiving keys: content into a temporary file while it is digested, then many commits in one transaction.

Thousands of small keys share a transaction; results go back with it. Nothing is promised
before its transaction has ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sshmap.errors import DigestMismatch, HostLost, InvalidKey, ProtocolError, SshmapError
from sshmap.model import Maker, check_name
from sshmap.protocol.framing import FrameReader
from sshmap.protocol.messages import End, Handed, Put, PutResult, Stored, Unsent, refused
from sshmap.store import locks
from sshmap.store.commit import Staged, Store
from sshmap.store.digest import Hasher, digest_fd
from sshmap.store.files import is_trusted, mapped_error, seal, sealed_at
from sshmap.store.layout import remove_tree
from sshmap.store.writing import link_or_copy, write_all


class Content(NamedTuple):
    """What was received."""

    size: int
    digest: bytes
    #: when it was sealed
    sealed: int


#: received keys that wait for a common transaction
GATHER = 200
GATHER_SIZE = 64 << 20


class Receiver:
    """Receives the keys of one session.

    Args:
        store: the session's store.
        take: gives the next open file that came with a message.
    """

    def __init__(self, store: Store, take: Callable[[], int]) -> None:
        self._store, self._take = store, take
        self._scratch: Path | None = None
        self._count = 0
        self._waiting: list[Staged | PutResult] = []
        self._size = 0
        self._makers: list[Maker] = []

    def define_maker(self, maker: Maker) -> None:
        """Remember what a receipt's maker digest stands for, with the next commit."""
        self._makers.append(maker)

    def receive(self, put: Put, reader: FrameReader) -> Stored | None:
        """Receive one key; return results if it is time for a commit."""
        self._count += 1
        path = self._directory() / str(self._count)
        try:
            check_name(put.name)
        except InvalidKey as exc:
            self._drain(reader)
            self._waiting.append(refused(exc, put.name))
        else:
            self._waiting.append(self._content(put, path, reader))
        if len(self._waiting) >= GATHER or self._size >= GATHER_SIZE:
            return self._commit()
        return None

    def receive_file(self, path: Path, digest: bytes, reader: FrameReader) -> None:
        """Receive a file that is not a key.

        Raises:
            DigestMismatch: it is not what was announced.
        """
        fresh = self._directory() / "shipped"
        content = self._write(fresh, reader)
        if isinstance(content, OSError):
            raise mapped_error(content, path.name)
        if content.digest != digest:
            fresh.unlink()
            raise DigestMismatch("a shipped file arrived damaged", hint="run the command again")
        fresh.replace(path)

    def flush(self) -> Iterator[Stored]:
        """Commit what waits."""
        if self._waiting:
            yield self._commit()

    def _directory(self) -> Path:
        if self._scratch is None:
            self._scratch = locks.scratch_dir(self._store.root)
        return self._scratch

    def _content(self, put: Put, path: Path, reader: FrameReader) -> Staged | PutResult:
        try:
            content = self._write(path, reader)
        except HostLost:
            raise
        except SshmapError as exc:
            path.unlink(missing_ok=True)
            return refused(exc, put.name)
        if isinstance(content, OSError):
            path.unlink(missing_ok=True)
            return refused(mapped_error(content, put.name), put.name)
        self._size += content.size
        return Staged(
            path=path, name=put.name, size=content.size, digest=content.digest, sealed=content.sealed, receipt=put.receipt,
            replace=put.replace,
        )  # fmt: skip

    def _write(self, path: Path, reader: FrameReader) -> Content | OSError:
        """Write a stream to a file up to its End; after a failed write the rest is read and dropped."""
        piece = reader.read()
        if isinstance(piece, Handed):
            return self._adopt(piece, path)
        hasher, failure, sealed = Hasher(), None, 0
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            while isinstance(piece, memoryview):
                hasher.update(piece)
                if failure is None:
                    failure = _written(fd, piece)
                piece = reader.read()
            if isinstance(piece, Unsent):
                raise piece.problem.error()
            if not isinstance(piece, End):
                path.unlink(missing_ok=True)
                raise ProtocolError("a stream of content was broken off")
            try:
                sealed = seal(fd)
            except OSError as exc:
                failure = failure or exc
        finally:
            os.close(fd)
        return failure or _checked(Content(hasher.size, hasher.digest, sealed), piece)

    def _adopt(self, handed: Handed, path: Path) -> Content | OSError:
        """Give a file that was handed over a name here too; one that can still be written to is copied."""
        fd = self._take()
        try:
            link_or_copy(fd, path)
            with path.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                sealed = sealed_at(status)
                if is_trusted(status, handed.size, sealed):
                    return Content(handed.size, handed.digest, sealed)
                content = Content(*digest_fd(file.fileno()), sealed or int(time.time()))
        except OSError as exc:
            return exc
        finally:
            os.close(fd)
        return _checked(content, handed)

    def _drain(self, reader: FrameReader) -> None:
        while isinstance(piece := reader.read(), memoryview):
            continue
        if isinstance(piece, Handed):
            os.close(self._take())

    def _commit(self) -> Stored:
        waiting, self._waiting, self._size = self._waiting, [], 0
        store = self._store
        for item in waiting:
            if isinstance(item, Staged):
                store.prepare(item)
        with store.committing():
            for maker in self._makers:
                store.keys.remember(maker)
            results = tuple(self._committed(item) if isinstance(item, Staged) else item for item in waiting)
            if any(result.fresh for result in results):
                store.ledger.bump()
        self._makers.clear()
        for item in waiting:
            if isinstance(item, Staged):
                item.path.unlink(missing_ok=True)
        return Stored(results=results)

    def _committed(self, item: Staged) -> PutResult:
        try:
            return PutResult(item.name, self._store.commit(item))
        except SshmapError as exc:
            return refused(exc, item.name)

    def close(self) -> None:
        """Drop what was not committed."""
        if self._scratch is not None:
            remove_tree(self._scratch)
            self._scratch = None


def _checked(content: Content, announced: End | Handed) -> Content:
    if (announced.size, announced.digest) != (content.size, content.digest):
        raise DigestMismatch(
            f"content arrived damaged ({content.size} of {announced.size} bytes)", hint="run the command again"
        )
    return content


def _written(fd: int, piece: memoryview) -> OSError | None:
    try:
        write_all(fd, piece)
    except OSError as exc:
        return exc
    return None
