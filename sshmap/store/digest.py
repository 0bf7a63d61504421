"""xxh3-128, the digest of everything stored and sent.

It finds damage, not malice: a process that can write below the root can change digests, too.
"""

from __future__ import annotations

import os

import xxhash

from sshmap.model import Digest

CHUNK = 256 * 1024
#: xxh3-128 of nothing
EMPTY = Digest(xxhash.xxh3_128_digest(b""))


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


def digest_fd(fd: int, expected: int = -1) -> tuple[int, Digest]:
    """Return size and digest of an open file, read from its beginning; the offset is left alone.

    Args:
        fd: the file.
        expected: its size, if the caller knows it; a file of another size is read all the same.
    """
    expected = os.fstat(fd).st_size if expected < 0 else expected
    if expected < CHUNK:
        content = os.pread(fd, expected + 1, 0)
        if len(content) == expected:
            return expected, digest_of(content)
    buffer = memoryview(bytearray(min(CHUNK, expected + 1)))
    hasher = Hasher()
    while count := os.preadv(fd, [buffer], hasher.size):
        hasher.update(buffer[:count])
    return hasher.size, hasher.digest


def digest_of(content: bytes) -> Digest:
    """Digest some bytes."""
    return Digest(xxhash.xxh3_128_digest(content))
