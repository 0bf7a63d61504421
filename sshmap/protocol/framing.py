"""Frames: messages and data over a byte stream, without copying data more than once.

Reading goes through one buffer that is reused, so a stream of any length needs a
fixed amount of memory; a data frame is handed out as a view that is valid until the
next read.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from sshmap.errors import ConversationBroken, ProtocolError
from sshmap.protocol.messages import AnyMessage, Message, Tick

HEADER = struct.Struct(">IB")
MESSAGE, DATA = 0, 1
#: bytes of content in one data frame
CHUNK = 256 * 1024
MAX_DATA = 1024 * 1024
MAX_MESSAGE = 16 * 1024 * 1024
_BUFFER = 1024 * 1024
_FLUSH_AT = 128 * 1024


class Bytes(Protocol):
    """A byte stream in both directions, as a transport gives it."""

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send all of them, one after the other."""

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send bytes of an open file without reading them here; return how many, 0 if none can be sent so."""

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes; 0 means the end."""


class FrameWriter:
    """Writes frames; safe for several threads.

    Small frames are gathered until `flush`, so thousands of small keys do not cost
    a system call each.
    """

    def __init__(self, stream: Bytes) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()
        self._pending = bytearray()
        #: number of sends so far; tells a heartbeat whether anything was said
        self.sends = 0

    def message(self, message: Message, *, flush: bool = True) -> None:
        """Write a message."""
        payload = self._encoder.encode(message)
        self._write(MESSAGE, payload, flush=flush)

    def message_by(self, message: Message, carry: Callable[[bytes], bool]) -> bool:
        """Have a function send what was gathered and a message, for example together with an open file; say whether it did."""
        payload = self._encoder.encode(message)
        with self._lock:
            self.sends += 1
            sent = carry(b"".join((self._pending, HEADER.pack(len(payload), MESSAGE), payload)))
            if sent:
                self._pending.clear()
            return sent

    def data(self, content: bytes | bytearray | memoryview) -> None:
        """Write a frame of content of at most `CHUNK` bytes; call `flush` or send a message afterwards."""
        self._write(DATA, content, flush=False)

    def file(self, fd: int, size: int, pace: Callable[[int], object] = int) -> bool:
        """Write the first ``size`` bytes of an open file as content; say whether the file had so many.

        Where it has fewer, zeros are sent in their place: a frame's length is sent before its content.

        Args:
            fd: the file.
            size: bytes.
            pace: called after each piece with its bytes; may wait.
        """
        whole = True
        for offset in range(0, size, CHUNK):
            count = min(CHUNK, size - offset)
            with self._lock:
                self._pending += HEADER.pack(count, DATA)
                sent = self._send_file(fd, offset, count) if count >= _FLUSH_AT else 0
                piece = _read(fd, offset + sent, count - sent) if sent < count else b""
                whole &= sent + len(piece) == count
                self._pending += piece.ljust(count - sent, b"\0")
                if len(self._pending) >= _FLUSH_AT:
                    self._flush()
            pace(count)
        return whole

    def _send_file(self, fd: int, offset: int, count: int) -> int:
        """Have the stream send bytes of a file by itself as far as it can; return how many."""
        self._flush()
        done = 0
        while done < count and (sent := self._stream.send_file(fd, offset + done, count - done)):
            done += sent
        return done

    def flush(self) -> None:
        """Send what was gathered."""
        with self._lock:
            self._flush()

    def _write(self, kind: int, payload: bytes | bytearray | memoryview, *, flush: bool) -> None:
        with self._lock:
            self._pending += HEADER.pack(len(payload), kind)
            if len(payload) >= _FLUSH_AT:
                self._flush(payload)
            else:
                self._pending += payload
            if flush or len(self._pending) >= _FLUSH_AT:
                self._flush()

    def _flush(self, *more: bytes | bytearray | memoryview) -> None:
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self.sends += 1
            # header and payload in one call, as a header sent alone would cost a packet
            self._stream.send(pending, *more)


def _read(fd: int, offset: int, count: int) -> bytes:
    try:
        return os.pread(fd, count, offset)
    except OSError:
        # what the disk cannot read counts as missing, so `file` reports it
        return b""


#: made once and not by each reader: msgspec crashes when two threads make its tables of the same classes at the same time
_DECODER = msgspec.msgpack.Decoder(AnyMessage)


class FrameReader:
    """Reads frames.

    Args:
        stream: where the bytes come from.
    """

    def __init__(self, stream: Bytes) -> None:
        self._stream = stream
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._decode: Callable[[memoryview], Message] = _DECODER.decode

    def read(self) -> Message | memoryview | None:
        """Return the next message or piece of content, or None at the end of the stream.

        Raises:
            ProtocolError: a frame is too long or unknown.
            ConversationBroken: a frame is cut short.
        """
        while True:
            if not self._fill(HEADER.size, at_boundary=True):
                return None
            length, kind = HEADER.unpack_from(self._buffer, self._start)
            # a frame without bytes gets nobody further, and so could be sent for ever
            if not 0 < length <= (MAX_DATA if kind == DATA else MAX_MESSAGE) or kind > DATA:
                raise ProtocolError(f"bad frame: kind {kind}, {length} bytes")
            self._fill(HEADER.size + length)
            begin = self._start + HEADER.size
            self._start = begin + length
            payload = self._view[begin : self._start]
            if kind == DATA:
                return payload
            message = self._message(payload)
            if not isinstance(message, Tick):
                return message

    @property
    def buffered(self) -> bool:
        """Whether bytes were received that `read` has not returned yet."""
        return self._end > self._start

    def unread(self, content: bytes) -> None:
        """Put back bytes that were received behind the marker: the first frame begins with them."""
        self._buffer[: len(content)] = content
        self._start, self._end = 0, len(content)

    def _message(self, payload: memoryview) -> Message:
        try:
            return self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise ProtocolError(f"bad message: {exc}", hint="the other side may run another version of sshmap") from exc

    def _fill(self, need: int, *, at_boundary: bool = False) -> bool:
        if self._end - self._start >= need:
            return True
        self._make_room(need)
        while self._end - self._start < need:
            count = self._stream.recv_into(self._view[self._end :])
            if not count:
                if at_boundary and self._end == self._start:
                    return False
                raise ConversationBroken("the connection ended in the middle of a message")
            self._end += count
        return True

    def _make_room(self, need: int) -> None:
        if need > len(self._buffer):
            bigger = bytearray(need)
            bigger[: self._end - self._start] = self._view[self._start : self._end]
            self._buffer, self._view = bigger, memoryview(bigger)
        elif self._start + max(need, _BUFFER // 4) > len(self._buffer):
            self._view[: self._end - self._start] = self._view[self._start : self._end]
        elif self._start != self._end:
            return
        self._end -= self._start
        self._start = 0
