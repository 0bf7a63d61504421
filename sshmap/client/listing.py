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
from collections.abc import Generator, Iterator

import cachetools
import msgspec

from sshmap.client.conversations import Conversations
from sshmap.client.results import raise_failures
from sshmap.errors import InvalidKey, ProtocolError
from sshmap.model import Bucket, check_name, check_prefix, show
from sshmap.protocol.messages import Buckets, ListBuckets, Listed, Listing, Ls, Message, Served
from sshmap.transport.session import Session

CACHE_SIZE = 64 << 20
#: buckets that a host may have
MOST_BUCKETS = 1_000_000
#: rows of one host's listing that are remembered at most
_REMEMBERED = 20_000


class Placed(msgspec.Struct, frozen=True):
    """A key as a listing shows it, and the host it lies on."""

    #: without the scheme, as hosts know it
    path: str
    #: bytes
    size: int
    #: when it was committed, in seconds since 1970 by its host's clock
    mtime: int
    #: xxh3-128 of its content
    digest: bytes
    host: str

    @property
    def name(self) -> str:
        """The key as it is typed."""
        return show(self.path)

    def __str__(self) -> str:
        return self.name


class Folder(msgspec.Struct, frozen=True):
    """A directory of keys as a listing of one level shows it."""

    #: without the scheme; ends in ``/``
    path: str

    @property
    def name(self) -> str:
        """The directory as it is typed."""
        return show(self.path)

    def __str__(self) -> str:
        return self.name


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
) -> Generator[Placed | Folder]:
    """Go through the keys with a prefix, sorted; one level as keys and directories.

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


def list_buckets(conversations: Conversations) -> list[Bucket]:
    """Return the buckets of all hosts together, sorted by name.

    Raises:
        SshmapError: a host did not answer; a listing is complete or an error.
    """
    answers, failures = conversations.gather(lambda name: conversations.ask(name, _buckets_of))
    raise_failures(failures, {})
    sums: dict[str, Bucket] = {}
    for bucket in itertools.chain.from_iterable(answers.values()):
        known = sums.get(bucket.name, Bucket(bucket.name, 0, 0, 0))
        sums[bucket.name] = Bucket(
            bucket.name, known.keys + bucket.keys, known.size + bucket.size, max(known.mtime, bucket.mtime)
        )
    return [sums[name] for name in sorted(sums)]


def _buckets_of(session: Session) -> list[Bucket]:
    """Ask one host, and check what it says.

    Raises:
        ProtocolError: what it sends are no buckets, or not in order, or there is no end of them.
    """
    buckets: list[Bucket] = []
    for page in session.stream(ListBuckets(), Served):
        if isinstance(page, Served):
            break
        if not isinstance(page, Buckets) or not page.rows or len(buckets) > MOST_BUCKETS:
            raise ProtocolError("it did not send a list of buckets", host=session.host)
        for bucket in page.rows:
            _check_bucket(bucket.name, buckets[-1].name if buckets else "", session.host)
            buckets.append(bucket)
    return buckets


def _check_bucket(name: str, last: str, host: str) -> None:
    try:
        check_name(f"{name}/x")
    except InvalidKey as exc:
        raise ProtocolError(f"it sent a bad name: {exc.message}", host=host) from exc
    if "/" in name or name <= last:
        raise ProtocolError(f"it sent {name[:100]!r} as a bucket, or buckets out of order", host=host)


def _merged(streams: dict[str, Iterator[Placed | Folder]]) -> Iterator[Placed | Folder]:
    """Merge the rows of all hosts; a directory that several hosts have is one.

    Raises:
        ProtocolError: two hosts say that they hold the same key.
    """
    last: Placed | Folder = Folder("")
    for row in heapq.merge(*streams.values(), key=lambda row: row.path):
        if row.path == last.path:
            if isinstance(row, Folder):
                continue
            if isinstance(last, Placed):
                raise ProtocolError(f"it lists {row.name}, which {last.host} holds, too", host=row.host)
        last = row
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

    def rows(self) -> Iterator[Placed | Folder]:
        """Go through the rows, sorted by path."""
        for page in itertools.chain([self._first] if self._first else [], self.pages):
            rows: list[Placed | Folder] = [
                Placed(entry.name, entry.size, entry.mtime, entry.digest, self._host) for entry in page.entries
            ]
            rows += map(Folder, page.prefixes)
            if page.prefixes:
                rows.sort(key=lambda row: row.path)
            yield from rows
