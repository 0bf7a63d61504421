"""Listings, answered from a cache as long as the ledger's generation stays the same.

Pages are kept as they were sent, so a cached answer costs no query. The cache is bounded by bytes. It belongs to the
process: the warm agent's serves all sessions, that of an agent process its one session.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import ClassVar

import cachetools

from sshmap.model import Entry
from sshmap.protocol.framing import FrameWriter
from sshmap.protocol.messages import Buckets, Listed, Listing, Ls, Served
from sshmap.store.commit import Store
from sshmap.store.layout import Root

CACHE_SIZE = 16 << 20
_ROWS = 1000


class Listings:
    """The listings of one host."""

    _by_path: ClassVar[dict[str, Listings]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._cache: cachetools.LRUCache[tuple[str, str, bool], list[Listing]] = cachetools.LRUCache(
            CACHE_SIZE, getsizeof=_size
        )
        self._lock = threading.Lock()

    @classmethod
    def of(cls, root: Root) -> Listings:
        """Return the cache that all sessions of this process share for a root."""
        with cls._guard:
            return cls._by_path.setdefault(str(root.path), cls())

    def answer(self, store: Store, request: Ls, writer: FrameWriter) -> None:
        """Send a listing, or say that the one that the client remembers is still right."""
        generation = store.ledger.generation()
        if request.known == generation:
            writer.message(Listed(generation=generation, unchanged=True))
            return
        key = (generation, request.prefix, request.recursive)
        with self._lock:
            pages = None if request.after else self._cache.get(key)
        if pages is not None:
            for page in pages:
                writer.message(page, flush=False)
        else:
            self._send_fresh(store, request, writer, key)
        writer.message(Listed(generation=generation))

    def _send_fresh(self, store: Store, request: Ls, writer: FrameWriter, key: tuple[str, str, bool]) -> None:
        """Send rows as they are read; cache them if they are few and no key changed meanwhile."""
        pages: list[Listing] = []
        room = CACHE_SIZE // 4
        for page in _pages(store, request):
            writer.message(page, flush=False)
            room -= _size([page]) if room > 0 else 0
            if room > 0:
                pages.append(page)
        if room > 0 and not request.after and store.ledger.generation() == key[0]:
            with self._lock:
                self._cache[key] = pages


def _pages(store: Store, request: Ls) -> Iterator[Listing]:
    rows: Iterator[Entry | str] = (
        store.keys.scan(request.prefix, request.after)
        if request.recursive
        else store.keys.level(request.prefix, request.after)
    )
    entries: list[Entry] = []
    prefixes: list[str] = []
    for row in rows:
        if isinstance(row, str):
            prefixes.append(row)
        else:
            entries.append(row)
        if len(entries) + len(prefixes) >= _ROWS:
            yield Listing(entries=tuple(entries), prefixes=tuple(prefixes))
            entries, prefixes = [], []
    if entries or prefixes:
        yield Listing(entries=tuple(entries), prefixes=tuple(prefixes))


def send_buckets(store: Store, writer: FrameWriter) -> None:
    """Send all buckets."""
    count, buckets = 0, store.keys.buckets()
    while rows := tuple(itertools.islice(buckets, _ROWS)):
        writer.message(Buckets(rows=rows))
        count += len(rows)
    writer.message(Served(count=count))


def _size(pages: list[Listing]) -> int:
    """Roughly the bytes some pages take in memory."""
    return 64 + sum(
        250 * len(page.entries) + 120 * len(page.prefixes) + sum(len(entry.name) for entry in page.entries)
        for page in pages
    )
