"""Copying files in: sources are read once, placed by their names, and streamed to all hosts at once.

A feeder deals the sources out to lanes, one per host; a sender per lane streams them without
waiting for answers, and a reader takes the answers. A sender keeps a source until the host has
answered for it: what has no answer when the session breaks is sent again on a new one, which is
harmless, however often that happens.

Rejected: one thread that both sends and reads answers. It could wait to send while the host waits to answer.
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from sshmap.client.conversations import BULK, Conversations
from sshmap.client.lanes import Lane
from sshmap.client.results import Transfer, silent
from sshmap.client.sources import Source, pieces
from sshmap.errors import HostKeyRefused, HostLost, HostNotReady, NotCopied, ProtocolError, Refused, SshmapError
from sshmap.model import show
from sshmap.protocol.framing import CHUNK
from sshmap.protocol.messages import End, Put, PutResult, Stored, Sync, Synced, Unsent
from sshmap.protocol.messages import Problem as ProblemMessage
from sshmap.store.digest import Hasher
from sshmap.transport.session import Session

_BATCH = 64
#: unanswered files after which the sender waits
AHEAD = 20_000
#: seconds between looks whether the host was lost, while the sender waits
_LOOK = 0.5


class Answered(Protocol):
    """Takes what has become of a source."""

    def __call__(self, source: Source, size: int, result: PutResult, problem: SshmapError | None) -> None:
        """Take a result; ``problem`` is set if the source could not be read here or the host refused it."""


def upload(
    conversations: Conversations, sources: Iterable[Source], report: Callable[[int, int], None] = silent
) -> Transfer:
    """Send sources to the hosts their names belong to.

    Args:
        conversations: the way to the hosts.
        sources: what to send; gone through once, as it is sent.
        report: called with the number and bytes of what has been committed since.
    """
    transfer = Transfer(failures={}, lost={}, spread={})
    guard = threading.Lock()

    def answered(source: Source, size: int, result: PutResult, problem: SshmapError | None) -> None:
        with guard:
            if problem:
                transfer.fail(source.name, problem)
            else:
                transfer.fresh += result.fresh
                transfer.repaired += result.repaired
                transfer.kept += not result.fresh and not result.repaired
                transfer.size += size
                transfer.arrived(conversations.ring.place(source.name), size)
            report(1, size)

    senders = {host.name: _Sender(conversations, host.name, answered, bulk=True) for host in conversations.hosts}
    for host in filter(conversations.splits_by_size, list(senders)):
        senders[_small(host)] = _Sender(conversations, host, answered, bulk=False)
    feeder = _Feeder(conversations, senders)
    feeding = threading.Thread(target=feeder.feed, args=(sources,), name="feeder", daemon=True)
    feeding.start()
    _, failures = conversations.gather(lambda name: senders[name].run(), senders)
    feeding.join()
    if feeder.broken:
        raise feeder.broken
    missed: dict[str, int] = {}
    for name in failures:
        host = name.removesuffix(_SMALL)
        missed[host] = missed.get(host, 0) + senders[name].undelivered
    transfer.missed = sum(missed.values())
    transfer.lost = {host: _told(failures.get(host) or failures[_small(host)], host, missed[host]) for host in missed}
    return transfer


def _told(error: SshmapError, host: str, count: int) -> SshmapError:
    """Say why a host's sources did not arrive, and how many."""
    if not isinstance(error, HostLost) or isinstance(error, HostNotReady | HostKeyRefused):
        return error
    files = "1 file" if count == 1 else f"{count} files"
    return HostLost(
        f"down: {files} did not arrive: {error.message}",
        hint=error.hint or "when it is back, run the same command again",
        host=host,
    )


class _Feeder:
    """Deals sources out to the lanes of their hosts; if the sources raise an exception, it is kept in ``broken``."""

    def __init__(self, conversations: Conversations, senders: dict[str, _Sender]) -> None:
        self._conversations, self._senders = conversations, senders
        self.broken: BaseException | None = None

    def feed(self, sources: Iterable[Source]) -> None:
        """Deal all of them out."""
        batches: dict[str, list[Source]] = collections.defaultdict(list)
        try:
            for source in sources:
                name = self._lane_of(source)
                batches[name].append(source)
                if len(batches[name]) >= _BATCH:
                    self._senders[name].lane.put(batches.pop(name))
        except BaseException as exc:  # noqa: BLE001  # raised again by the thread that waits
            self.broken = exc
        for name, sender in self._senders.items():
            sender.lane.put(batches.get(name, []))
            sender.lane.end()

    def _lane_of(self, source: Source) -> str:
        host: str = self._conversations.ring.place(source.name)
        return _small(host) if source.size < BULK and _small(host) in self._senders else host


#: what the name of a host's lane for small content ends in
_SMALL = " small"


def _small(host: str) -> str:
    """Return the name of a host's lane for small content, if it has a lane of its own for that."""
    return host + _SMALL


class _Sent(msgspec.Struct):
    """A source that the host has not answered for."""

    source: Source
    size: int = 0
    #: why it could not be read
    problem: SshmapError | None = None


class _Sender:
    """Sends what comes through one host's lane.

    Args:
        conversations: the way to the host.
        host: its name.
        answered: takes what has become of each source.
        bulk: whether to use the transport for large content.
    """

    def __init__(self, conversations: Conversations, host: str, answered: Answered, *, bulk: bool) -> None:
        self.lane: Lane[Source] = Lane()
        self._conversations, self._host, self._answered, self._bulk = conversations, host, answered, bulk
        #: sources that are to be sent again, before any new one
        self._again: collections.deque[Source] = collections.deque()
        self._unanswered: collections.deque[_Sent] = collections.deque()
        self._buffer = memoryview(bytearray(CHUNK))
        self._answers = 0

    def run(self) -> None:
        """Send until the lane ends; when the host is lost, the lane is given up so that the others are not held up."""
        try:
            if self.lane.wait():
                self._conversations.ask(self._host, self._converse, bulk=self._bulk, progress=lambda: self._answers)
        except BaseException:
            self.lane.give_up()
            raise

    @property
    def undelivered(self) -> int:
        """Number of sources that did not arrive, after `run` has failed."""
        return self.lane.given_up + len(self._again) + len(self._unanswered)

    def _converse(self, session: Session) -> None:
        """Send sources on a session, beginning with those that have no answer from the session before."""
        self._again.extendleft(sent.source for sent in reversed(self._unanswered))
        self._unanswered.clear()
        if any(not source.repeatable for source in self._again):
            raise HostLost("the connection broke, and the stream cannot be read again", hint="run the command again")
        reader = _Reader(session, self._take_answer)
        try:
            with contextlib.closing(reader):
                for sent in self._taken(reader):
                    self._put(session, sent)
                reader.finish()
        except SshmapError as exc:
            raise reader.error or exc from None
        if reader.error:
            raise reader.error
        if self._unanswered:
            raise ProtocolError(f"it did not answer for {len(self._unanswered)} files", host=self._host)

    def _taken(self, reader: _Reader) -> Iterator[_Sent]:
        """Go through the sources to send; each is noted as unanswered before it is sent."""
        while True:
            reader.await_room()
            if self._again:
                sent = _Sent(self._again.popleft())
            else:
                while (source := self.lane.take(_LOOK)) is None:
                    if reader.error or self.lane.ended:
                        return
                sent = _Sent(source)
            self._unanswered.append(sent)
            yield sent

    def _put(self, session: Session, sent: _Sent) -> None:
        hasher = Hasher()
        session.writer.message(Put(name=sent.source.name, replace=sent.source.replace), flush=False)
        try:
            with contextlib.closing(pieces(sent.source, self._buffer)) as content:
                for piece in content:
                    hasher.update(piece)
                    session.writer.data(piece)
        except (NotCopied, Refused) as exc:
            sent.problem = exc
            session.writer.message(Unsent(problem=ProblemMessage.of(exc)), flush=False)
            return
        sent.size = hasher.size
        session.writer.message(End(size=hasher.size, digest=hasher.digest), flush=False)

    def _take_answer(self, result: PutResult) -> None:
        if not self._unanswered or self._unanswered[0].source.name != result.name:
            raise ProtocolError(f"it answered for {show(result.name)}, which is not what it was sent", host=self._host)
        sent = self._unanswered.popleft()
        self._answers += 1
        problem = sent.problem or (result.problem.error(self._host) if result.problem else None)
        self._answered(sent.source, sent.size, result, problem)


class _Reader:
    """Takes the answers of one session in a thread of its own, until the last one has come.

    Args:
        session: where Puts are being sent.
        take: takes what has become of the oldest Put that has no answer yet.
    """

    def __init__(self, session: Session, take: Callable[[PutResult], None]) -> None:
        self._session, self._take = session, take
        #: why no more answers come
        self.error: SshmapError | None = None
        self._room = threading.Semaphore(AHEAD)
        #: whether the host was told that no more Puts come
        self._asked = False
        session.expect_end(Synced)
        self._thread = threading.Thread(target=self._read, name=f"answers-{session.host}", daemon=True)
        self._thread.start()

    def await_room(self) -> None:
        """Wait until few enough Puts are unanswered.

        Raises:
            SshmapError: no more answers come.
        """
        while not self._room.acquire(timeout=_LOOK):
            if self.error:
                raise self.error
        if self.error:
            raise self.error

    def finish(self) -> None:
        """Ask for the answers that have not come yet, and wait for the last."""
        self._asked = True
        self._session.writer.message(Sync())
        self._thread.join()

    def close(self) -> None:
        """End the thread; it is given a moment to read what the host sent before the session broke."""
        self._thread.join(_LOOK)
        if self._thread.is_alive():
            self._session.channel.abort()
            self._thread.join()

    def _read(self) -> None:
        try:
            while not isinstance(message := self._session.next(), Synced):
                if not isinstance(message, Stored) or not message.results:
                    raise ProtocolError(f"{type(message).__name__} came instead of results", host=self._session.host)
                for result in message.results:
                    self._take(result)
                    self._room.release()
            if not self._asked:
                raise ProtocolError("Synced came before it was asked for", host=self._session.host)
        except SshmapError as exc:
            self.error = exc
