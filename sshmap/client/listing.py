"""Listings of the whole cluster: every host's sorted rows, merged as they come.

Rows are not gathered: a listing of a million keys passes through a bounded memory. Small
ones are remembered with their generation, and the host is asked whether that has changed. A
listing may be left half way: sessions with hosts that have more rows to send are closed then.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Iterator

import cachetools

from sshmap.client.conversations import Conversations
from sshmap.client.results import raise_failures
from sshmap.errors import InvalidKey, ProtocolError
from sshmap.model import Entry, check_name, check_prefix, show
from sshmap.protocol.messages import Listed, Listing, Ls, Message
from sshmap.transport.session import Session

CACHE_SIZE = 64 << 20
#: rows of one host's listing that are remembered at most
_REMEMBERED = 20_000


class Placed(Entry, frozen=True, array_like=True):
    """An entry and the host it lies on."""

    host: str = ""


class ListingCache:
    """Listings that the client remembers, by host, prefix and whether they are recursive."""

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


def list_keys(
    conversations: Conversations, cache: ListingCache, prefix: str, *, recursive: bool
) -> Iterator[Placed | str]:
    """Go through the keys with a prefix, sorted; one level as entries and directories.

    Raises:
        SshmapError: a host did not answer; a listing is complete or an error.
    """
    names = [host.name for host in conversations.hosts]
    questions = {name: _Question(conversations, cache, name, prefix, recursive=recursive) for name in names}
    with contextlib.ExitStack() as stack:
        # every host is asked before the first answer is read
        _, failures = conversations.gather(lambda name: questions[name].put())
        for question in questions.values():
            stack.enter_context(contextlib.closing(question.pages))
        raise_failures(failures, {})
        yield from _merged({name: question.rows() for name, question in questions.items()})


def _merged(streams: dict[str, Iterator[tuple[str, Placed | str]]]) -> Iterator[Placed | str]:
    """Merge the rows of all hosts; a directory that several hosts have is one.

    Raises:
        ProtocolError: two hosts say that they hold the same key.
    """
    last: tuple[str, Placed | str] = ("", "")
    for name, row in heapq.merge(*streams.values(), key=lambda pair: pair[0]):
        if name == last[0]:
            if isinstance(row, str) and isinstance(last[1], str):
                continue
            if isinstance(row, Placed) and isinstance(last[1], Placed):
                raise ProtocolError(f"it lists {show(name)}, which {last[1].host} holds, too", host=row.host)
        last = (name, row)
        yield row


class _Question:
    """One host's part of a listing.

    Args:
        conversations: the way to the host.
        cache: listings that the client remembers.
        host: the host's name.
        prefix: what to list.
        recursive: all keys, or one level.
    """

    def __init__(
        self, conversations: Conversations, cache: ListingCache, host: str, prefix: str, *, recursive: bool
    ) -> None:
        self._cache, self._host, self._prefix, self._recursive = cache, host, prefix, recursive
        self._key = (host, prefix, recursive)
        self._known = cache.get(self._key)
        #: last name that was passed on; after a break, the listing goes on behind it
        self._after = ""
        self.pages = conversations.converse(host, self._talk, progress=lambda: self._after)
        self._first: Listing | None = None

    def put(self) -> None:
        """Ask, and read the first page."""
        self._first = next(self.pages, None)

    def _talk(self, session: Session) -> Iterator[Listing]:
        generation, known = self._known if not self._after else ("", [])
        request = Ls(prefix=self._prefix, recursive=self._recursive, known=generation, after=self._after)
        fresh: list[Listing] | None = None if self._after else []
        count = 0
        for answer in session.stream(request, Listed):
            if isinstance(answer, Listed):
                if answer.unchanged:
                    if not generation:
                        raise ProtocolError("it says that a listing has not changed that nobody has", host=self._host)
                    yield from known
                elif fresh is not None:
                    self._cache.put(self._key, (answer.generation, fresh))
                return
            page = self._checked(answer)
            count += len(page.entries) + len(page.prefixes)
            fresh = [*fresh, page] if fresh is not None and count <= _REMEMBERED else None
            yield page

    def _checked(self, answer: Message) -> Listing:
        """Check that a page is part of the listing that was asked for: what a host sends is data, which may be wrong.

        Raises:
            ProtocolError: it is no page, is empty, not sorted, or holds what was not asked for.
        """
        if not isinstance(answer, Listing):
            raise ProtocolError(f"{type(answer).__name__} came instead of a listing", host=self._host)
        names = sorted([*(entry.name for entry in answer.entries), *answer.prefixes])
        own = [entry.name for entry in answer.entries]
        if not names or own != sorted(own) or len(set(names)) != len(names) or names[0] <= self._after:
            raise ProtocolError("it sent a listing that is empty or out of order", host=self._host)
        if not (names[0].startswith(self._prefix) and names[-1].startswith(self._prefix)):
            raise ProtocolError(f"it sent a listing of what was not asked for: {names[-1][:100]!r}", host=self._host)
        self._check_names(answer)
        self._after = names[-1]
        return answer

    def _check_names(self, page: Listing) -> None:
        try:
            for entry in page.entries:
                check_name(entry.name)
            for prefix in page.prefixes:
                check_prefix(f"{prefix}x")
        except InvalidKey as exc:
            raise ProtocolError(f"it sent a bad name: {exc.message}", host=self._host) from exc

    def rows(self) -> Iterator[tuple[str, Placed | str]]:
        """Go through the rows, each with the name that rows are sorted by."""
        for page in itertools.chain([self._first] if self._first else [], self.pages):
            rows: list[tuple[str, Placed | str]] = [
                (entry.name, Placed(entry.name, entry.size, entry.mtime, entry.digest, self._host))
                for entry in page.entries
            ]
            rows += [(prefix, prefix) for prefix in page.prefixes]
            if page.prefixes:
                rows.sort(key=lambda row: row[0])
            yield from rows
