"""Sending keys: what does not match its digest is never called complete.

Small content is digested as it leaves. Large content goes out by the kernel's hand with the
digest that was taken when it came into being, so damage shows at the other end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from sshmap.errors import DigestMismatch, NothingMatched, SshmapError
from sshmap.model import Entry, show
from sshmap.protocol.framing import CHUNK, FrameWriter
from sshmap.protocol.messages import End, Get, Item, Problem, Served, Unsent
from sshmap.store.commit import Store, damaged
from sshmap.store.digest import Hasher

#: bytes from which on it pays not to read content here
WORTH_LEAVING = 256 << 10


def send_keys(store: Store, request: Get, writer: FrameWriter) -> None:
    """Send all keys with a prefix, or one key, back to back.

    Raises:
        NothingMatched: the one key does not exist.
    """
    count = passed = 0
    buffer = memoryview(bytearray(CHUNK))
    for entry in _entries(store, request):
        if entry.size < request.least or 0 < request.limit <= entry.size:
            passed += 1
            continue
        writer.message(Item(name=entry.name, size=entry.size), flush=False)
        try:
            writer.message(_send(store, entry, writer, buffer), flush=False)
        except SshmapError as exc:
            writer.message(Unsent(problem=Problem.of(exc, entry.name)), flush=False)
        count += 1
    writer.message(Served(count=count, passed=passed))


def _entries(store: Store, request: Get) -> Iterator[Entry]:
    if not request.exact:
        yield from store.keys.scan(request.prefix, request.after)
        return
    row = store.keys.get(request.prefix)
    if row is None:
        raise NothingMatched(f"no such key: {show(request.prefix)}", hint="sshmap ls shows what there is")
    yield Entry(row.name, row.size, row.mtime, row.digest)


def _send(store: Store, entry: Entry, writer: FrameWriter, buffer: memoryview) -> End:
    fd = store.files.open(entry.name)
    hasher = Hasher()
    try:
        if entry.size >= WORTH_LEAVING and os.fstat(fd).st_size == entry.size and store.rests(entry.name, entry.digest):
            if writer.file(fd, entry.size):
                return End(size=entry.size, digest=entry.digest)
            raise damaged(entry.name)
        # of a file that has grown, a little is enough to see that
        while hasher.size <= entry.size and (count := os.readv(fd, [buffer])):
            hasher.update(buffer[:count])
            writer.data(buffer[:count])
    finally:
        os.close(fd)
    if hasher.digest != entry.digest and not store.stands(entry.name, hasher.digest):
        row = store.keys.get(entry.name)
        if row is None or row.digest != entry.digest:
            raise DigestMismatch(
                f"{show(entry.name)}: was replaced or deleted while it was read", hint="run the command again"
            )
        raise damaged(entry.name)
    return End(size=hasher.size, digest=hasher.digest)
