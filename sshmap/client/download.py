"""Copying keys out: every host streams what it has; a file appears under its name when it is whole and checked.

What a host sends is data: a name that was not asked for, that the ring places elsewhere or
that comes out of order ends the host's part with an error that names the host.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from sshmap.client.conversations import BULK, Conversations
from sshmap.client.destination import Directory, NamedFile, Target
from sshmap.client.results import Transfer, silent
from sshmap.errors import (
    ConversationBroken,
    DigestMismatch,
    HostKeyRefused,
    HostLost,
    HostNotReady,
    InvalidKey,
    NoSpace,
    NotCopied,
    NothingMatched,
    ProtocolError,
    SshmapError,
    UsageError,
)
from sshmap.model import check_name, show
from sshmap.protocol.messages import End, Get, Item, Passed, Problem, Served, Unsent
from sshmap.store.digest import Hasher
from sshmap.transport.session import Session

#: bytes of a key that is returned as a whole: whatever a host announces, no more is held in memory
MOST_BYTES = 1 << 30
#: large keys that are remembered while small ones are fetched
MOST_LARGE = 10_000
#: names in one request
_NAMES = 2000
#: bytes of a key, and why they do not count if they do not
Received = tuple[int, SshmapError | None]


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

    def arrived(name: str, size: int, problem: SshmapError | None) -> None:
        with guard:
            if problem:
                transfer.fail(name, problem)
            else:
                transfer.fresh += 1
                transfer.size += size
            report(1, size)

    chosen: dict[str, list[str]] = {}
    for name in sorted(paths or ()):
        chosen.setdefault(conversations.ring.place(name), []).append(name)

    def fetch(host: str) -> None:
        with contextlib.closing(Directory(top)) as directory:
            part = _Part(conversations, host, prefix, directory, arrived)
            if paths is None:
                part.fetch_all()
            else:
                part.fetch_chosen(chosen[host], paths)

    _, failures = conversations.gather(fetch, None if paths is None else chosen)
    transfer.lost = {host: _told(error, host, prefix) for host, error in failures.items()}
    # what a host that does not answer holds nobody else knows
    transfer.missed = None if failures else 0
    return transfer


def _told(error: SshmapError, host: str, prefix: str) -> SshmapError:
    """Say what it means that a host was lost."""
    if not isinstance(error, HostLost) or isinstance(error, ProtocolError | HostNotReady | HostKeyRefused):
        return error
    return HostLost(
        f"down: its keys below {show(prefix)}, an unknown number, did not all arrive: {error.message}",
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
        size, problem = _receive(session, item, lambda: self._directory.create(path))
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


def _receive(session: Session, item: Item, create: Callable[[], Target]) -> Received:
    """Receive one key into a file; if that cannot be written, its content is read and dropped."""
    try:
        file = create()
    except OSError as exc:
        _drop(session)
        return 0, _unwritable(exc, item)
    with contextlib.closing(file):
        try:
            size, problem = receive(session, item, file.write)
        except OSError as exc:
            _drop(session)
            return 0, _unwritable(exc, item)
        try:
            if not problem:
                file.finish()
        except OSError as exc:
            return 0, _unwritable(exc, item)
    return size, problem


def _unwritable(exc: OSError, item: Item) -> SshmapError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left here for {show(item.name)}")
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        return NotCopied(f"cannot write {show(item.name)}: a link or a file lies where a directory is needed")
    return UsageError(f"cannot write {exc.filename or item.name}: {exc.strerror}")


def receive(session: Session, item: Item, write: Callable[[memoryview], object]) -> Received:
    """Receive a key's content up to its End; it does not count if the host or its digest says so.

    Raises:
        HostLost: the conversation broke, or what came is not the protocol.
        OSError: the content cannot be written; the rest of it has not been read from the session.
    """
    hasher = Hasher()
    while isinstance(frame := session.frame(), memoryview):
        hasher.update(frame)
        if hasher.size > item.size:
            raise ProtocolError(f"it sends more of {show(item.name)} than it announced", host=session.host)
        write(frame)
    if isinstance(frame, Unsent):
        return 0, frame.problem.error(session.host)
    if not isinstance(frame, End):
        raise ProtocolError("content was broken off", host=session.host)
    if (frame.size, frame.digest) != (hasher.size, hasher.digest):
        return 0, DigestMismatch(
            f"{show(item.name)}: what arrived does not match its digest",
            hint=f"run the command again; if that stays, sshmap rm {show(item.name)}, then make or copy it again",
            host=session.host,
        )
    return hasher.size, None


def _drop(session: Session) -> None:
    while isinstance(session.frame(), memoryview):
        continue


def _fetch(conversations: Conversations, name: str, take: Callable[[Session, Item], Received]) -> int:
    """Have one key sent and return its size; by the transport for large content unless a session for small content is kept.

    Args:
        conversations: the way to the hosts.
        name: the key.
        take: receives the content; called again after a break.

    Raises:
        SshmapError: there is no such key, it is damaged, or cannot be taken.
    """
    host = conversations.ring.place(name)

    def converse(session: Session, limit: int) -> Received | None:
        session.begin(Get(prefix=name, exact=True, limit=limit), Served, Problem)
        answer = session.expect(Item, Passed)
        if isinstance(answer, Passed):
            session.expect(Served)
            return None
        if answer.name != name:
            raise ProtocolError(f"it sent {show(answer.name)} instead of {show(name)}", host=host)
        received = take(session, answer)
        with contextlib.suppress(HostLost):
            # all content has arrived; a break before the last message only means that the session is not kept
            session.expect(Served)
        return received

    limit = BULK if conversations.splits_by_size(host) else 0
    received = conversations.ask(host, lambda session: converse(session, limit), bulk=not limit)
    if received is None and limit:
        received = conversations.ask(host, lambda session: converse(session, 0), bulk=True)
    if received is None:
        raise ProtocolError(f"it does not send {show(name)}", host=host)
    size, problem = received
    if problem:
        raise problem
    return size


def fetch_bytes(conversations: Conversations, name: str) -> bytes:
    """Return one key's content.

    Raises:
        NothingMatched: there is no such key.
        UsageError: it is larger than `MOST_BYTES`.
        DigestMismatch: its content is damaged.
    """
    content = bytearray()

    def take(session: Session, item: Item) -> Received:
        if item.size > MOST_BYTES:
            raise UsageError(
                f"{show(name)} is said to have {item.size} bytes, more than get returns ({MOST_BYTES})",
                hint="copy it to a file: sshmap cp, or get_file",
                host=session.host,
            )
        content.clear()
        return receive(session, item, content.extend)

    _fetch(conversations, name, take)
    return bytes(content)


def fetch_one(conversations: Conversations, name: str, out: BinaryIO) -> int:
    """Write one key's content to a stream and return its size.

    Raises:
        NothingMatched: there is no such key.
        DigestMismatch: its content is damaged; what was written must not be used.
        HostLost: the connection broke after some of it was written.
    """
    written = 0

    def write(piece: memoryview) -> None:
        nonlocal written
        out.write(piece)
        written += len(piece)

    def take(session: Session, item: Item) -> Received:
        try:
            return receive(session, item, write)
        except ConversationBroken as exc:
            if not written:
                raise
            raise HostLost(
                f"{show(name)}: the connection broke after {written} bytes of it were written: {exc.message}",
                hint="run the command again",
                host=session.host,
            ) from exc

    return _fetch(conversations, name, take)


def fetch_again(conversations: Conversations, name: str, file: IO[bytes]) -> int:
    """Write one key's content to an empty file, from its beginning again after a break, and return its size.

    Raises:
        NothingMatched: there is no such key.
        DigestMismatch: its content is damaged.
    """

    def take(session: Session, item: Item) -> Received:
        file.seek(0)
        file.truncate()
        return receive(session, item, file.write)

    return _fetch(conversations, name, take)


def fetch_file(conversations: Conversations, name: str, path: Path) -> int:
    """Copy one key to a file, which is replaced when all of it has been checked; return its size."""
    return _fetch(conversations, name, lambda session, item: _receive(session, item, lambda: NamedFile(path)))
