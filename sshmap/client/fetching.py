"""Fetching one key: into memory, to a stream or to a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO

from sshmap.client.conversations import BULK, Conversations
from sshmap.client.destination import NamedFile
from sshmap.client.receiving import Received, receive, receive_file
from sshmap.errors import ConversationBroken, HostLost, ProtocolError, UsageError
from sshmap.model import show
from sshmap.protocol.messages import Get, Item, Passed, Problem, Served
from sshmap.transport.session import Session

#: bytes of a key that is returned as a whole: whatever a host announces, no more is held in memory
MOST_BYTES = 1 << 30


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
    return _fetch(conversations, name, lambda session, item: receive_file(session, item, lambda: NamedFile(path)))
