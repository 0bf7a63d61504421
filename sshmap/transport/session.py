"""A session: a channel after the opening exchange, ready for questions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from sshmap.errors import ProtocolError, SshmapError
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import await_marker, new_marker
from sshmap.protocol.messages import Hello, Message, Problem, PutResult, Stored, Sync, Synced, Welcome
from sshmap.transport.channel import Channel

Answer = TypeVar("Answer", bound=Message)


class Session:
    """One conversation with one agent; one request at a time.

    Args:
        channel: an open channel; closed with the session.
        hello: who is meant and what the cluster looks like.

    Raises:
        SshmapError: the agent cannot be talked to, or refuses.
    """

    def __init__(self, channel: Channel, hello: Hello) -> None:
        self.channel = channel
        self.host = hello.host
        self.reader = FrameReader(channel)
        self.writer = FrameWriter(channel)
        marker = new_marker()
        try:
            channel.send(marker)
            self.writer.message(hello)
            await_marker(channel, self.reader, marker)
            self.welcome = self._expect(Welcome)
        except SshmapError as exc:
            self.close()
            exc.host = exc.host or self.host
            raise

    def ask(self, request: Message, answer: type[Answer]) -> Answer:
        """Send a request and return its one answer.

        Raises:
            SshmapError: what the agent reports.
        """
        self.writer.message(request)
        return self._expect(answer)

    def stream(self, request: Message, last: type[Message]) -> Iterator[Message]:
        """Send a request and go through its answers up to and with the last."""
        self.writer.message(request)
        while True:
            message = self.next()
            yield message
            if isinstance(message, last):
                return

    def sync(self) -> list[PutResult]:
        """Wait until all Puts have been committed or refused; return what became of those not reported yet."""
        results: list[PutResult] = []
        for message in self.stream(Sync(), Synced):
            if isinstance(message, Stored):
                results += message.results
        return results

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
        """Return the next message, a Problem too, or the next piece of content."""
        try:
            frame = self.reader.read()
        except SshmapError as exc:
            exc.host = exc.host or self.host
            raise
        if frame is None:
            raise ProtocolError(
                "the agent ended the session", host=self.host, hint="run the command again; it goes on where it was"
            )
        return frame

    def _expect(self, answer: type[Answer]) -> Answer:
        message = self.next()
        if not isinstance(message, answer):
            raise ProtocolError(f"{type(message).__name__} came instead of {answer.__name__}", host=self.host)
        return message

    def close(self) -> None:
        """End the session."""
        self.channel.close()
