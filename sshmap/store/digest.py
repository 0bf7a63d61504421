"""xxh3-128, the digest of everything stored and sent.

It finds damage, not malice: whoever can write below the root can write anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec
import xxhash

from sshmap.model import Digest, Maker

CHUNK = 256 * 1024
#: xxh3-128 of nothing
EMPTY = Digest(xxhash.xxh3_128_digest(b""))
_encode = msgspec.json.Encoder(order="deterministic").encode


class Hasher:
    """Counts and digests content as it passes."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()
        #: bytes so far
        self.size = 0

    def update(self, content: bytes | memoryview) -> None:
        """Take some more content."""
        self._hash.update(content)
        self.size += len(content)

    @property
    def digest(self) -> Digest:
        """Digest of all content so far."""
        return Digest(self._hash.digest())


def digest_fd(fd: int) -> tuple[int, Digest]:
    """Return size and digest of an open file, read from its beginning; the offset is left alone."""
    buffer = memoryview(bytearray(min(CHUNK, max(1, os.fstat(fd).st_size + 1))))
    hasher = Hasher()
    while count := os.preadv(fd, [buffer], hasher.size):
        hasher.update(buffer[:count])
    return hasher.size, hasher.digest


def digest_of(content: bytes) -> Digest:
    """Digest some bytes."""
    return Digest(xxhash.xxh3_128_digest(content))


def digest_maker(maker: Maker) -> Digest:
    """Digest what the tasks of a job have in common."""
    return digest_of(_encode(maker))


def digest_inputs(members: Iterable[tuple[str, bytes]]) -> Digest:
    """Digest the inputs of a task: their names and contents."""
    hasher = Hasher()
    for name, digest in members:
        hasher.update(name.encode() + b"\0" + digest)
    return hasher.digest
