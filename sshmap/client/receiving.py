"""Receiving the content of one key from a session: it counts only if its size and digest are those that the host announced."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable

from sshmap.client.destination import Target
from sshmap.errors import DigestMismatch, NoSpace, NotCopied, ProtocolError, SshmapError, UsageError
from sshmap.model import show, typed
from sshmap.protocol.messages import End, Item, Unsent
from sshmap.store.digest import Hasher
from sshmap.transport.session import Session

#: bytes of a key, and why they do not count if they do not
Received = tuple[int, SshmapError | None]


def receive_file(session: Session, item: Item, create: Callable[[], Target]) -> Received:
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
            hint=f"run the command again; if that stays, {typed('sshmap', 'rm', show(item.name))}, then make or copy it again",
            host=session.host,
        )
    return hasher.size, None


def _drop(session: Session) -> None:
    while isinstance(session.frame(), memoryview):
        continue
