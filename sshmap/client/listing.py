"""Listings of the whole cluster: every host's sorted rows, merged as they come.

Rows are not gathered: a listing of a million keys passes through a bounded memory. Small
ones are remembered with their generation, and the host is asked whether it still stands.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator

import cachetools

from sshmap.client.conversations import Links
from sshmap.client.results import raise_failures
from sshmap.model import Entry
from sshmap.protocol.messages import Listed, Listing, Ls
from sshmap.transport.session import Session

CACHE_SIZE = 64 << 20
#: rows of one host's listing that are remembered at most
_REMEMBERED = 20_000


class Placed(Entry, frozen=True, array_like=True):
    """An entry and the host it lies on."""

    host: str = ""


class ListingCache:
    """Listings the client still has, by host and question."""

    def __init__(self) -> None:
        self._cache: cachetools.LRUCache[tuple[str, str, bool], tuple[str, list[Listing]]] = cachetools.LRUCache(
            CACHE_SIZE, getsizeof=_size
        )
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, bool]) -> tuple[str, list[Listing]]:
        """Return generation and pages; an empty generation if there are none."""
        with self._lock:
            return self._cache.get(key, ("", []))

    def put(self, key: tuple[str, str, bool], value: tuple[str, list[Listing]]) -> None:
        """Remember pages."""
        with self._lock:
            if _size(value) <= CACHE_SIZE:
                self._cache[key] = value


def _size(value: tuple[str, list[Listing]]) -> int:
    return 64 + sum(300 * (len(page.entries) + len(page.prefixes)) for page in value[1])


def list_keys(links: Links, cache: ListingCache, prefix: str, *, recursive: bool) -> Iterator[Placed | str]:
    """Go through the keys with a prefix, sorted; one level as entries and directories.

    Raises:
        SshmapError: a host did not answer; a listing is complete or an error.
    """
    streams = [
        _rows(host.name, pages)
        for host, pages in zip(links.hosts, _ask(links, cache, prefix, recursive=recursive), strict=True)
    ]
    seen = ""
    for name, row in heapq.merge(*streams, key=lambda pair: pair[0]):
        if isinstance(row, str):
            if name == seen:
                continue
            seen = name
        yield row


def _ask(links: Links, cache: ListingCache, prefix: str, *, recursive: bool) -> list[Iterator[Listing]]:
    """Put the question to all hosts before the first answer is read."""

    def begin(name: str) -> Iterator[Listing]:
        key = (name, prefix, recursive)
        generation, pages = cache.get(key)
        request = Ls(prefix=prefix, recursive=recursive, known=generation)

        def first(session: Session) -> tuple[Session, Listing | Listed]:
            session.writer.message(request)
            answer = session.next()
            assert isinstance(answer, Listing | Listed)
            return session, answer

        session, answer = links.ask(name, first)
        return _pages(session, answer, pages, cache, key)

    results, failures = links.gather(begin)
    if failures:
        for name in results:
            links.drop(name)
        raise_failures(failures, {})
    return [results[host.name] for host in links.hosts]


def _pages(
    session: Session, answer: object, known: list[Listing], cache: ListingCache, key: tuple[str, str, bool]
) -> Iterator[Listing]:
    fresh: list[Listing] | None = []
    count = 0
    while not isinstance(answer, Listed):
        assert isinstance(answer, Listing)
        count += len(answer.entries) + len(answer.prefixes)
        fresh = [*fresh, answer] if fresh is not None and count <= _REMEMBERED else None
        yield answer
        answer = session.next()
    if answer.unchanged:
        yield from known
    elif fresh is not None:
        cache.put(key, (answer.generation, fresh))


def _rows(host: str, pages: Iterator[Listing]) -> Iterator[tuple[str, Placed | str]]:
    for page in pages:
        rows: list[tuple[str, Placed | str]] = [
            (entry.name, Placed(entry.name, entry.size, entry.mtime, entry.digest, host)) for entry in page.entries
        ]
        rows += [(prefix, prefix) for prefix in page.prefixes]
        if page.prefixes:
            rows.sort(key=lambda row: row[0])
        yield from rows
