"""Receiving content: writing it to a file while digesting it, or taking an open file that was handed over.

Whatever goes wrong with the file, the content is read up to its End, so that the session stays in step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sshmap.errors import DigestMismatch, ProtocolError
from sshmap.protocol.framing import FrameReader
from sshmap.protocol.messages import End, Handed, Message, Unsent
from sshmap.store.digest import Hasher, digest_fd
from sshmap.store.seal import Seal, seal
from sshmap.store.writing import link_or_copy, write_all

#: free space that received content must leave: so many bytes, or on a small disk this share of it
FLOOR, FLOOR_SHARE = 64 << 20, 0.05
#: bytes after which the free space is looked at again
_LOOK = 16 << 20


class Content(NamedTuple):
    """What was received."""

    size: int
    digest: bytes
    #: when the file was stamped, in seconds since the epoch
    sealed: int


class Incoming:
    """The content that follows a message, up to and with the End, Handed or Unsent that ends it.

    Args:
        reader: reads the client's frames.
        take: returns the descriptor of the next file that was handed over.
    """

    def __init__(self, reader: FrameReader, take: Callable[[], int]) -> None:
        self._reader, self._take = reader, take
        #: the frame that was read last; None before the first
        self._frame: Message | memoryview | None = None
        #: whether the stream was broken off, so that the next frame cannot be understood
        self.broken = False

    def save(self, path: str) -> Content:
        """Write the content to a new file and seal it; if that fails, no file is left.

        Raises:
            DigestMismatch: it is not what was announced.
            SshmapError: the client could not send it.
            OSError: the disk refuses.
            ProtocolError: the stream was broken off.
        """
        self._next()
        try:
            return self._adopt(self._frame, path) if isinstance(self._frame, Handed) else self._write(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            raise

    def drain(self) -> None:
        """Read the rest of the content and drop it."""
        if self._frame is None:
            self._next()
            if isinstance(self._frame, Handed):
                os.close(self._taken())
        while isinstance(self._frame, memoryview):
            self._next()

    def _next(self) -> None:
        self.broken = True
        self._frame = self._reader.read()
        if not isinstance(self._frame, memoryview | End | Handed | Unsent):
            raise ProtocolError("a stream of content was broken off")
        self.broken = False

    def _taken(self) -> int:
        self.broken = True
        fd = self._take()
        self.broken = False
        return fd

    def _write(self, path: str) -> Content:
        hasher = Hasher()
        with _created(path) as fd:
            looked = 0
            while isinstance(self._frame, memoryview):
                if hasher.size >= looked:
                    _check_room(fd)
                    looked = hasher.size + _LOOK
                hasher.update(self._frame)
                write_all(fd, self._frame)
                self._next()
            content = Content(hasher.size, hasher.digest, seal(fd))
        return _checked(content, self._frame)

    def _adopt(self, handed: Handed, path: str) -> Content:
        """Link a file that was handed over to a path; a file that can still be written to is copied."""
        fd = self._taken()
        try:
            if link_or_copy(fd, path):
                return _examined(fd, handed)
        finally:
            os.close(fd)
        with open(path, "rb", buffering=0) as file:
            return _examined(file.fileno(), handed)


def _examined(fd: int, handed: Handed) -> Content:
    """Return what a file holds that was handed over; it is read unless its seal says that it is as it was digested."""
    now = Seal.of(os.fstat(fd))
    if now.size == handed.size and now.fresh:
        return Content(handed.size, handed.digest, now.stamped)
    return _checked(Content(*digest_fd(fd), now.stamped or int(time.time())), handed)


def _check_room(fd: int) -> None:
    """Check that the disk keeps the free space that the host's ledger and commands need.

    Raises:
        OSError: it has less.
    """
    disk = os.fstatvfs(fd)
    if disk.f_bavail * disk.f_frsize < min(FLOOR, FLOOR_SHARE * disk.f_blocks * disk.f_frsize):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _created(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        yield fd
    finally:
        os.close(fd)


def _checked(content: Content, announced: Message | memoryview | None) -> Content:
    if isinstance(announced, Unsent):
        raise announced.problem.error()
    assert isinstance(announced, End | Handed), "content ends with one of these"
    if (announced.size, announced.digest) != (content.size, content.digest):
        raise DigestMismatch(
            f"content arrived damaged ({content.size} of {announced.size} bytes)", hint="run the command again"
        )
    return content
