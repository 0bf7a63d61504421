"""Copying keys out: every host streams what it has; a file appears under its name when it is whole and checked.

What a host sends is data: a name that was not asked for, that the ring places elsewhere or
that comes out of order ends the host's part with an error that names the host.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from sshmap.client.conversations import BULK, Conversations
from sshmap.client.destination import Directory
from sshmap.client.receiving import receive_file
from sshmap.client.results import Transfer, silent
from sshmap.errors import HostLost, InvalidKey, NothingMatched, ProtocolError, SshmapError, is_silent
from sshmap.model import check_name, show
from sshmap.protocol.messages import Get, Item, Passed, Problem, Served
from sshmap.transport.session import Session

#: large keys that are remembered while small ones are fetched
MOST_LARGE = 10_000
#: names in one request
_NAMES = 2000


def download(
    conversations: Conversations,
    prefix: str,
    top: Path,
    report: Callable[[int, int], None] = silent,
    paths: Mapping[str, str] | None = None,
) -> Transfer:
    """Copy keys with a prefix to files below a directory.

    Args:
        conversations: the way to the hosts.
        prefix: what the names start with; empty, or ends in ``/``.
        top: the directory.
        report: called with the number and bytes of keys that have arrived since.
        paths: the keys, and for each the path of its file below the directory; if None, all keys with the prefix, under
            what follows it in their names.
    """
    transfer = Transfer(failures={}, lost={})
    guard = threading.Lock()
    chosen = _by_host(conversations, paths or ())
    came: collections.Counter[str] = collections.Counter()

    def arrived(name: str, size: int, problem: SshmapError | None) -> None:
        with guard:
            if problem:
                transfer.fail(name, problem)
            else:
                transfer.fresh += 1
                transfer.size += size
            came[conversations.ring.place(name)] += paths is not None
            report(1, size)

    def fetch(host: str) -> None:
        with contextlib.closing(Directory(top)) as directory:
            part = _Part(conversations, host, prefix, directory, arrived)
            if paths is None:
                part.fetch_all()
            else:
                part.fetch_chosen(chosen[host], paths)

    _, failures = conversations.gather(fetch, None if paths is None else chosen)
    # what a host that does not answer holds nobody else knows, unless it was listed
    missed = {host: len(chosen[host]) - came[host] for host in failures} if paths is not None else {}
    transfer.lost = {host: _told(error, host, prefix, missed.get(host)) for host, error in failures.items()}
    transfer.missed = None if len(missed) < len(failures) else sum(missed.values())
    return transfer


def _by_host(conversations: Conversations, names: Iterable[str]) -> dict[str, list[str]]:
    """Sort names, and deal them to the hosts on which they are placed."""
    dealt: dict[str, list[str]] = {}
    for name in sorted(names):
        dealt.setdefault(conversations.ring.place(name), []).append(name)
    return dealt


def _told(error: SshmapError, host: str, prefix: str, missed: int | None) -> SshmapError:
    """Say what it means that a host was lost."""
    if not is_silent(error):
        return error
    count = "an unknown number" if missed is None else missed
    return HostLost(
        f"down: {count} of its keys below {show(prefix)} did not arrive: {error.message}",
        hint=error.hint or "when it is back, run the same command again",
        host=host,
    )


class _Part:
    """Fetches those keys with a prefix that one host has.

    Args:
        conversations: the way to the host.
        host: its name.
        prefix: what the names start with.
        directory: where files are made.
        arrived: called for each key with its size, and the reason if it was not written.
    """

    def __init__(
        self,
        conversations: Conversations,
        host: str,
        prefix: str,
        directory: Directory,
        arrived: Callable[[str, int, SshmapError | None], None],
    ) -> None:
        self._conversations, self._host, self._prefix = conversations, host, prefix
        self._directory, self._arrived = directory, arrived
        #: last key that the host has sent or passed over; after a break, the request goes on behind it
        self._last = ""
        #: keys that were passed over because they are large, until they have arrived; `MOST_LARGE` at most
        self._large: dict[str, None] = {}
        #: chosen keys that have not come yet
        self._left: dict[str, None] = {}
        #: where the files of chosen keys go; None while all keys with the prefix are fetched
        self._paths: Mapping[str, str] | None = None

    def fetch_chosen(self, names: Sequence[str], paths: Mapping[str, str]) -> None:
        """Fetch some keys, sorted by name; one that is not there any more counts as gone wrong."""
        self._paths = paths
        for start in range(0, len(names), _NAMES):
            some = names[start : start + _NAMES]
            self._left = dict.fromkeys(some)
            self._fetch(Get(prefix=self._prefix, names=tuple(some)), bulk=True)
            for name in self._left:
                self._arrived(name, 0, NothingMatched(f"no such key: {show(name)}: deleted while it was copied"))

    def fetch_all(self) -> None:
        """Fetch small keys, then large ones through the transport for large content; some at a time, if there are very many."""
        if not self._conversations.splits_by_size(self._host):
            self._fetch(Get(prefix=self._prefix), bulk=True)
            return
        start, whole = "", False
        while not whole:
            whole = self._fetch(Get(prefix=self._prefix, limit=BULK, after=start))
            end = self._last
            self._fetch_large(start, "" if whole else end)
            start = end

    def _fetch_large(self, start: str, end: str) -> None:
        """Fetch what was passed over; all that is large behind a name, up to another if one is given."""
        if self._large:
            self._fetch(Get(prefix=self._prefix, least=BULK, after=start), end, bulk=True)
        # keys that were large when they were passed over, and have been swapped for small ones since
        for name in list(self._large):
            with contextlib.suppress(NothingMatched):
                self._fetch(Get(prefix=name, exact=True), bulk=True)
        self._large.clear()

    def _fetch(self, request: Get, end: str = "", *, bulk: bool = False) -> bool:
        """Fetch keys, up to a name if one is given; say whether that was all the host has, which it is not if many large ones were passed over."""
        self._last = request.after
        return self._conversations.ask(
            self._host, lambda session: self._converse(session, request, end), bulk=bulk, progress=lambda: self._last
        )

    def _converse(self, session: Session, request: Get, end: str) -> bool:
        session.begin(msgspec.structs.replace(request, after=self._last), Served, Problem)
        while not isinstance(answer := session.next(), Served):
            if not isinstance(answer, Item | Passed):
                raise ProtocolError(f"{type(answer).__name__} came instead of a key", host=self._host)
            self._check(answer.name, request)
            if end and answer.name > end:
                return True
            if isinstance(answer, Item):
                self._take(session, answer)
            elif request.limit:
                self._large[answer.name] = None
            else:
                raise ProtocolError(f"it does not send {show(answer.name)}", host=self._host)
            self._last = answer.name
            if len(self._large) == MOST_LARGE and request.limit:
                # what comes next is asked for again when these are here; the session is closed, as more is to come on it
                return False
        return True

    def _take(self, session: Session, item: Item) -> None:
        path = item.name[len(self._prefix) :] if self._paths is None else self._paths[item.name]
        size, problem = receive_file(session, item, lambda: self._directory.create(path))
        self._large.pop(item.name, None)
        self._left.pop(item.name, None)
        self._arrived(item.name, size, problem)

    def _check(self, name: str, request: Get) -> None:
        """Check that the host sends a key that was asked for, in order.

        Raises:
            ProtocolError: it sends something else.
        """
        try:
            check_name(name)
        except InvalidKey as exc:
            raise ProtocolError(f"it sent a bad name: {exc.message}", host=self._host) from exc
        elsewhere = not name.startswith(self._prefix) or (request.names and name not in self._left)
        if elsewhere or (request.exact and name != request.prefix):
            raise ProtocolError(f"it sent {show(name)}, which was not asked for", host=self._host)
        if name <= self._last:
            raise ProtocolError(f"it sent {show(name)} after {show(self._last)}: out of order", host=self._host)
        if (owner := self._conversations.ring.place(name)) != self._host:
            raise ProtocolError(f"it sent {show(name)}, which belongs on {owner}", host=self._host)
