"""Copying keys out: every host streams what it has; a file appears under its name when it is whole and checked."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from sshmap.client.conversations import Links
from sshmap.client.results import Transfer, silent
from sshmap.errors import (
    DigestMismatch,
    InvalidKey,
    NoSpace,
    NothingMatched,
    ProtocolError,
    Refused,
    SshmapError,
    UsageError,
)
from sshmap.model import check_name, show
from sshmap.protocol.messages import End, Get, Item, Problem, Served
from sshmap.store.digest import Hasher
from sshmap.store.writing import write_all
from sshmap.transport.session import Session


def download(
    links: Links, prefix: str, place: Callable[[str], Path], report: Callable[[int, int], None] = silent
) -> Transfer:
    """Copy all keys with a prefix to files.

    Args:
        links: the cluster.
        prefix: what the names start with.
        place: says where a key's file belongs.
        report: told number and bytes of what has arrived.

    Raises:
        SshmapError: a host did not answer; what arrived from others stays.
    """
    transfer = Transfer(failures={})
    guard = threading.Lock()

    def arrived(name: str, size: int, problem: SshmapError | None) -> None:
        with guard:
            if problem:
                transfer.failures[name] = problem
            else:
                transfer.fresh += 1
                transfer.size += size
            report(1, size)

    def fetch(name: str) -> None:
        last = ""

        def converse(session: Session) -> None:
            nonlocal last
            session.writer.message(Get(prefix=prefix, after=last))
            while not isinstance(item := session.next(), Served):
                assert isinstance(item, Item)
                last = item.name
                arrived(item.name, *_receive(session, item, place))

        links.ask(name, converse)

    _, failures = links.gather(fetch)
    for name, error in failures.items():
        transfer.failures[f"host {name}"] = error
    return transfer


def _receive(session: Session, item: Item, place: Callable[[str], Path]) -> tuple[int, SshmapError | None]:
    """Receive one key into its file; of one that cannot be written the content is read and dropped."""
    try:
        check_name(item.name)
        file = _Fresh(place(item.name))
    except (OSError, InvalidKey) as exc:
        _drop(session)
        return 0, _unwritable(exc, item)
    with contextlib.closing(file):
        try:
            size = receive(session, item.name, file.write)
        except (DigestMismatch, NothingMatched, Refused) as exc:
            exc.host = exc.host or session.host
            return 0, exc
        except OSError as exc:
            _drop(session)
            return 0, _unwritable(exc, item)
        try:
            file.finish()
        except OSError as exc:
            return 0, _unwritable(exc, item)
    return size, None


def _unwritable(exc: OSError | InvalidKey, item: Item) -> SshmapError:
    if isinstance(exc, InvalidKey):
        return exc
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left here for {show(item.name)}")
    return UsageError(f"cannot write {exc.filename or item.name}: {exc.strerror}")


def receive(session: Session, name: str, write: Callable[[memoryview], object]) -> int:
    """Receive a key's content up to its End and return its size.

    Raises:
        DigestMismatch: what came is not what the host has stored.
        SshmapError: the host reports a problem with it.
    """
    hasher = Hasher()
    while isinstance(frame := session.frame(), memoryview):
        hasher.update(frame)
        write(frame)
    if isinstance(frame, Problem):
        raise frame.error(session.host)
    if not isinstance(frame, End):
        raise ProtocolError("content was broken off", host=session.host)
    if (frame.size, frame.digest) != (hasher.size, hasher.digest):
        raise DigestMismatch(
            f"{show(name)}: what arrived does not match its digest",
            hint=f"run the command again; if that stays, sshmap rm {show(name)}, then make or copy it again",
            host=session.host,
        )
    return hasher.size


def _drop(session: Session) -> None:
    while isinstance(session.frame(), memoryview):
        continue


class _Fresh:
    """A file that takes its name when it is complete, and never exists half.

    A link stays one: its target is replaced. What is there and is no plain file (a FIFO, a
    device) is written to as it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path)) if path.is_symlink() else path
        self._fresh = self._path.with_name(f".sshmap-{secrets.token_hex(6)}")
        self._finished = False
        self._through = self._path.exists() and not (self._path.is_file() or self._path.is_dir())
        if self._through:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(self._fresh, flags, 0o666)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._fresh, flags, 0o666)

    def write(self, piece: memoryview) -> None:
        """Append some content."""
        write_all(self._fd, piece)

    def finish(self) -> None:
        """Give the file its name; what had it before is replaced."""
        if not self._through:
            self._fresh.rename(self._path)
        self._finished = True

    def close(self) -> None:
        """Close it; unfinished, it vanishes."""
        os.close(self._fd)
        if not (self._finished or self._through):
            self._fresh.unlink(missing_ok=True)


def fetch_one(links: Links, name: str, out: BinaryIO) -> int:
    """Write one key's content to a stream and return its size.

    Raises:
        NothingMatched: there is no such key.
        DigestMismatch: its content is damaged; what was written must not be used.
    """
    begun = False

    def converse(session: Session) -> int:
        nonlocal begun
        if begun:
            raise Refused(
                f"{show(name)}: the connection broke after some of it was written", hint="run the command again"
            )
        session.writer.message(Get(prefix=name, exact=True))
        item = session.next()
        assert isinstance(item, Item)
        begun = True
        try:
            size = receive(session, name, out.write)
        except (DigestMismatch, NothingMatched):
            session.next()
            raise
        session.next()
        return size

    return links.ask(links.ring.place(name), converse)


def fetch_file(links: Links, name: str, path: Path) -> int:
    """Copy one key to a file, which is replaced when all of it has been checked."""

    def converse(session: Session) -> int:
        session.writer.message(Get(prefix=name, exact=True))
        item = session.next()
        assert isinstance(item, Item)
        size, problem = _receive(session, item, lambda _: path)
        session.next()
        if problem:
            raise problem
        return size

    return links.ask(links.ring.place(name), converse)
