"""Sending keys: content that does not match its digest never counts as complete.

Small content is digested while it is sent. Large content is sent by the kernel straight from the file, followed by
the digest that was taken when the key was made, with which the receiver compares.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from sshmap.errors import DigestMismatch, NothingMatched, SshmapError
from sshmap.protocol.framing import CHUNK, FrameWriter
from sshmap.protocol.messages import End, Get, Item, Passed, Problem, Served, Unsent
from sshmap.store.commit import Store
from sshmap.store.contents import damaged, no_such_key
from sshmap.store.digest import Hasher
from sshmap.store.files import mapped_error
from sshmap.store.keys import Row

#: bytes from which on the kernel sends content without its being read here
WORTH_LEAVING = 256 << 10


def send_keys(store: Store, request: Get, writer: FrameWriter) -> None:
    """Send all keys with a prefix, or one key, back to back.

    Raises:
        NothingMatched: the one key does not exist.
    """
    count = 0
    buffer = memoryview(bytearray(CHUNK))
    for name, size in _listed(store, request):
        if size < request.least:
            continue
        if 0 < request.limit <= size:
            writer.message(Passed(name=name), flush=False)
            continue
        try:
            fd, row = store.contents.open(name)
        except NothingMatched:
            if request.exact:
                raise
            # deleted since it was listed
            continue
        except DigestMismatch as exc:
            writer.message(Item(name=name, size=0), flush=False)
            writer.message(_unsent(exc, name), flush=False)
        else:
            writer.message(Item(name=name, size=row.size), flush=False)
            try:
                writer.message(_send(fd, row, writer, buffer), flush=False)
            finally:
                os.close(fd)
        count += 1
    writer.message(Served(count=count))


def _listed(store: Store, request: Get) -> Iterator[tuple[str, int]]:
    """Go through the names that are asked for, and the sizes that their keys have now."""
    if request.names:
        rows = store.keys.rows([name for name in request.names if name > request.after])
        yield from ((name, rows[name].size) for name in request.names if name in rows)
    elif not request.exact:
        yield from ((entry.name, entry.size) for entry in store.keys.scan(request.prefix, request.after))
    elif row := store.keys.get(request.prefix):
        yield row.name, row.size
    else:
        raise no_such_key(request.prefix)


def _send(fd: int, row: Row, writer: FrameWriter, buffer: memoryview) -> End | Unsent:
    """Send content; return the message that ends it."""
    if row.size >= WORTH_LEAVING and os.fstat(fd).st_size == row.size:
        whole = writer.file(fd, row.size)
        return End(size=row.size, digest=row.digest) if whole else _unsent(damaged(row.name), row.name)
    hasher = Hasher()
    try:
        # no more than was announced, also if the file has grown
        while left := row.size - hasher.size:
            if not (count := os.readv(fd, [buffer[:left]])):
                break
            hasher.update(buffer[:count])
            writer.data(buffer[:count])
        grown = bool(os.pread(fd, 1, row.size))
    except OSError as exc:
        return _unsent(mapped_error(exc, row.name), row.name)
    if grown or (hasher.size, hasher.digest) != (row.size, row.digest):
        return _unsent(damaged(row.name), row.name)
    return End(size=row.size, digest=row.digest)


def _unsent(error: SshmapError, name: str) -> Unsent:
    return Unsent(problem=Problem.of(error, name))
