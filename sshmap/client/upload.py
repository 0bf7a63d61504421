"""Copying files in: walked once, placed by name, streamed to every host at once.

A thread per host sends without waiting for answers; what has not been answered when a
session breaks is sent again on a new one, which is harmless.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import queue
import stat
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from sshmap.client.conversations import AGAIN, Links, worth_another
from sshmap.client.results import Transfer, silent
from sshmap.errors import HostLost, SshmapError, UsageError
from sshmap.model import KeyName, base_name, show
from sshmap.protocol.framing import CHUNK
from sshmap.protocol.messages import End, Problem, Put, PutResult, Stored, Sync, Synced
from sshmap.store.digest import Hasher
from sshmap.transport.session import Session

_BATCH = 64
_QUEUED = 16
#: unanswered files after which the sender waits
_AHEAD = 20_000


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Something to become a key."""

    name: KeyName
    #: a file, or an open stream that can be read once
    content: Path | BinaryIO | bytes


def walk(top: Path) -> Iterator[tuple[Path, str]]:
    """Go through the files below a directory: path, and path relative to it.

    Links to files count as files; links to directories are not followed.

    Raises:
        UsageError: something there is no plain file, or cannot be read.
    """
    todo = [(str(top), "")]
    while todo:
        folder, relative = todo.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as exc:
            raise UsageError(f"cannot read {folder}: {exc.strerror}") from exc
        for entry in entries:
            name = f"{relative}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                todo.append((entry.path, f"{name}/"))
            elif entry.is_file():
                yield Path(entry.path), name
            else:
                raise UsageError(f"not a plain file: {entry.path}", hint="copy it by itself, or leave it out")


def upload(links: Links, sources: Iterable[Source], report: Callable[[int, int], None] = silent) -> Transfer:
    """Send sources to the hosts their names belong to.

    Args:
        links: the cluster.
        sources: what to send; gone through once, as it is sent.
        report: told number and bytes of what has been committed.
    """
    transfer = Transfer(failures={})
    guard = threading.Lock()

    def committed(host: str, result: PutResult, size: int) -> None:
        with guard:
            if result.problem:
                transfer.failures[result.name] = result.problem.error(host)
            else:
                transfer.fresh += result.fresh
                transfer.kept += not result.fresh
                transfer.size += size
            report(1, size)

    lanes: dict[str, queue.Queue[list[Source]]] = {host.name: queue.Queue(_QUEUED) for host in links.hosts}
    broken: dict[str, BaseException] = {}
    feeder = threading.Thread(target=_feed, args=(links, sources, lanes, broken), daemon=True)
    feeder.start()
    _, failures = links.gather(lambda name: _Sender(links, name, committed).run(lanes[name]))
    feeder.join()
    if "" in broken:
        raise broken[""]
    for name, error in failures.items():
        transfer.failures[f"host {name}"] = error
    return transfer


def _feed(
    links: Links,
    sources: Iterable[Source],
    lanes: dict[str, queue.Queue[list[Source]]],
    broken: dict[str, BaseException],
) -> None:
    """Deal the sources out to the hosts' lanes; an empty batch ends a lane."""
    batches: dict[str, list[Source]] = collections.defaultdict(list)
    try:
        for source in sources:
            host: str = links.ring.place(source.name)
            batches[host].append(source)
            if len(batches[host]) >= _BATCH:
                lanes[host].put(batches.pop(host))
    except BaseException as exc:  # noqa: BLE001  # raised again by the thread that waits
        broken[""] = exc
    for host, lane in lanes.items():
        if batches.get(host):
            lane.put(batches[host])
        lane.put([])


class _Sent(msgspec.Struct):
    """A source on its way."""

    source: Source
    size: int = 0
    #: why it could not be read
    problem: str = ""


class _Sender:
    """Sends what comes through one host's lane."""

    def __init__(self, links: Links, host: str, committed: Callable[[str, PutResult, int], None]) -> None:
        self._links, self._host, self._committed = links, host, committed
        self._unanswered: collections.deque[_Sent] = collections.deque()
        self._room = threading.Semaphore(_AHEAD)
        self._buffer = memoryview(bytearray(CHUNK))
        self._lost: SshmapError | None = None

    def run(self, lane: queue.Queue[list[Source]]) -> None:
        """Send until the lane ends; when the host is lost, drain the lane so that the others are not held up."""
        try:
            batches = iter(lane.get, [])
            first = next(batches, None)
            if first is not None:
                self._send_all(source for batch in itertools.chain([first], batches) for source in batch)
        except BaseException:
            for _ in iter(lane.get, []):
                continue
            raise

    def _send_all(self, sources: Iterator[Source]) -> None:
        """Send, and send again on a new session what was not answered, a few times."""
        for chance in reversed(range(AGAIN)):
            again = [sent.source for sent in self._unanswered]
            self._unanswered.clear()
            self._room, self._lost = threading.Semaphore(_AHEAD), None
            opened = False
            try:
                session = self._links.session(self._host)
                opened = True
                self._converse(session, itertools.chain(again, sources))
            except HostLost as exc:
                self._links.drop(self._host)
                once = [sent for sent in self._unanswered if not isinstance(sent.source.content, Path | bytes)]
                if not chance or once or not worth_another(exc, opened=opened):
                    raise
            else:
                return

    def _converse(self, session: Session, sources: Iterator[Source]) -> None:
        answers = threading.Thread(target=self._collect, args=(session,), daemon=True)
        answers.start()
        try:
            for source in sources:
                self._put(session, source)
            session.writer.message(Sync())
        except SshmapError:
            self._links.drop(self._host)
            answers.join()
            raise
        answers.join()
        if self._lost:
            raise self._lost

    def _put(self, session: Session, source: Source) -> None:
        while not self._room.acquire(timeout=1):
            if self._lost:
                raise self._lost
        sent = _Sent(source)
        self._unanswered.append(sent)
        hasher = Hasher()
        session.writer.message(Put(name=source.name), flush=False)
        try:
            with contextlib.closing(pieces(source.content, self._buffer)) as content:
                for piece in content:
                    hasher.update(piece)
                    session.writer.data(piece)
        except OSError as exc:
            # an End that matches nothing makes the host drop what came
            sent.problem = f"cannot read {source.content!s}: {exc.strerror}"
            session.writer.message(End(size=0, digest=b""), flush=False)
            return
        sent.size = hasher.size
        session.writer.message(End(size=hasher.size, digest=hasher.digest), flush=False)

    def _collect(self, session: Session) -> None:
        try:
            while not isinstance(message := session.next(), Synced):
                if isinstance(message, Stored):
                    for result in message.results:
                        sent = self._unanswered.popleft()
                        self._room.release()
                        self._committed(self._host, _judged(result, sent), sent.size)
        except SshmapError as exc:
            self._lost = exc
        except IndexError:
            self._lost = HostLost("the host answered more than it was sent", host=self._host)


def _judged(result: PutResult, sent: _Sent) -> PutResult:
    if not sent.problem:
        return result
    return PutResult(result.name, fresh=False, problem=Problem(kind="UsageError", message=sent.problem))


def pieces(content: Path | BinaryIO | bytes, buffer: memoryview) -> Generator[memoryview]:
    """Read some content piece by piece; each piece is valid until the next."""
    if isinstance(content, bytes):
        for start in range(0, len(content), CHUNK):
            yield memoryview(content)[start : start + CHUNK]
    elif isinstance(content, Path):
        fd = os.open(content, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while count := os.readv(fd, [buffer]):
                yield buffer[:count]
        finally:
            os.close(fd)
    else:
        # what is there, not as much as was asked for: a terminal ends its input once
        read = getattr(content, "read1", content.read)
        while piece := read(CHUNK):
            yield memoryview(piece)


def check_file(path: Path) -> None:
    """Refuse what cannot be copied as one file.

    Raises:
        UsageError: it is missing, a directory or unreadable.
    """
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{path} is a directory",
            hint=f"copy all of it with: sshmap cp -r {path} {show(base_name(str(path)) or 'bucket')}/",
        )
    if not os.access(path, os.R_OK):
        raise UsageError(f"cannot read {path}: permission denied")
