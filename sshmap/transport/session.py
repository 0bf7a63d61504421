"""A session: a channel after the opening exchange, on which requests are made one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, overload

import msgspec

from sshmap.errors import ConversationBroken, ProtocolError, SshmapError
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import await_marker, new_marker
from sshmap.protocol.messages import (
    LOWEST,
    VERSION,
    Hello,
    Message,
    Problem,
    Put,
    PutResult,
    Stored,
    Sync,
    Synced,
    Welcome,
    settle_version,
)
from sshmap.transport.channel import Channel

Answer = TypeVar("Answer", bound=Message)
Other = TypeVar("Other", bound=Message)


class _Writer(FrameWriter):
    """Writes frames, and counts the Puts among them."""

    puts = 0

    def message(self, message: Message, *, flush: bool = True) -> None:
        """Write a message."""
        self.puts += isinstance(message, Put)
        super().message(message, flush=flush)


class Session:
    """One session with one agent; one request at a time.

    Args:
        channel: an open channel; closed with the session.
        hello: the first message, without the versions of the protocol.

    Raises:
        SshmapError: the agent cannot be talked to, or refuses.
    """

    def __init__(self, channel: Channel, hello: Hello) -> None:
        self.channel = channel
        self.host = hello.host
        self.reader = FrameReader(channel)
        self.writer = _Writer(channel)
        #: messages that end the request under way; empty if none is under way, so that the session can be used again
        self._last: tuple[type[Message], ...] = ()
        marker = new_marker()
        try:
            channel.send(marker)
            self.writer.message(_with_versions(hello))
            await_marker(channel, self.reader, marker)
            self.welcome = self.expect(Welcome)
            settle_version(self.welcome.version, self.welcome.version)
        except SshmapError as exc:
            self.close()
            exc.host = exc.host or self.host
            raise

    @property
    def idle(self) -> bool:
        """Whether the last message of every request has been read."""
        return not self._last

    def begin(self, request: Message, *last: type[Message], flush: bool = True) -> None:
        """Send a request; it is under way until one of these messages has been read."""
        assert self.idle, "one request at a time"
        self._last = last
        self.writer.message(request, flush=flush)

    def expect_end(self, *last: type[Message]) -> None:
        """Note that requests are under way that the caller sends itself; one of these messages ends them."""
        assert self.idle, "one request at a time"
        self._last = last
        self.writer.puts = 0

    def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Send a request and return its one answer.

        Raises:
            SshmapError: what the agent reports.
        """
        self.begin(request, answer, Problem)
        return self.expect(answer)

    def stream(self, request: Message, last: type[Message]) -> Iterator[Message]:
        """Send a request and go through its answers up to and with the last."""
        self.begin(request, last, Problem)
        while True:
            message = self.next()
            yield message
            if isinstance(message, last):
                return

    def sync(self) -> list[PutResult]:
        """Wait until all Puts since the last time have been committed or refused; return what became of each, in their order.

        Raises:
            ProtocolError: the agent tells of fewer or more.
            SshmapError: what the agent reports.
        """
        results: list[PutResult] = []
        self._last = (Synced,)
        self.writer.message(Sync())
        while isinstance(message := self.expect(Stored, Synced), Stored):
            results += message.results
            if not message.results or len(results) > self.writer.puts:
                break
        if len(results) != self.writer.puts or not self.idle:
            raise ProtocolError(f"it answered for {len(results)} of {self.writer.puts} files", host=self.host)
        self.writer.puts = 0
        return results

    @overload
    def expect(self, kind: type[Answer], /) -> Answer: ...

    @overload
    def expect(self, kind: type[Answer], other: type[Other], /) -> Answer | Other: ...

    def expect(self, *kinds: type[Message]) -> Message:
        """Return the next message, which has to be of one of these kinds.

        Raises:
            ProtocolError: it is of another.
            SshmapError: what the agent reports.
        """
        message = self.next()
        if not isinstance(message, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ProtocolError(f"{type(message).__name__} came instead of {wanted}", host=self.host)
        return message

    def next(self) -> Message:
        """Return the next message.

        Raises:
            SshmapError: what the agent reports.
        """
        message = self.frame()
        if isinstance(message, Problem):
            raise message.error(self.host)
        if isinstance(message, memoryview):
            raise ProtocolError("content came where a message was expected", host=self.host)
        return message

    def frame(self) -> Message | memoryview:
        """Return the next message, a Problem too, or the next piece of content.

        Raises:
            ConversationBroken: the connection ended.
            ProtocolError: what came is not the protocol.
        """
        try:
            frame = self.reader.read()
        except SshmapError as exc:
            exc.host = exc.host or self.host
            raise
        if frame is None:
            raise ConversationBroken(
                "the agent ended the session", host=self.host, hint="run the command again; it goes on where it was"
            )
        if isinstance(frame, self._last):
            self._last = ()
        return frame

    def close(self) -> None:
        """End the session."""
        self.channel.close()


def _with_versions(hello: Hello) -> Hello:
    """Say which versions of the protocol this side speaks, unless that is said already."""
    return hello if hello.version else msgspec.structs.replace(hello, version=VERSION, lowest=LOWEST)
