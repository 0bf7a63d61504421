"""`Channel`, the seam between sshmap and what carries its bytes, and the channel over file descriptors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable
from typing import Protocol

from sshmap.errors import ConversationBroken, ProtocolError

#: seconds without a byte after which the other side counts as lost: four signs of life were due by then. Together with
#: the ten seconds that connecting again may take, an error names a host that vanished within 30 seconds
SILENCE = 12.0
#: bytes that a pipe is to hold: sshd makes pipes of 64 KiB, with which both ends keep waiting for each other
_PIPE = 1 << 20


class Channel(Protocol):
    """Bytes to and from one agent."""

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send all of them, one after the other.

        Raises:
            ConversationBroken: the other side is gone, or took nothing for `SILENCE` seconds.
        """

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send bytes of an open file without reading them here; return how many, 0 if none can be sent so.

        Raises:
            ConversationBroken: as `send`.
        """

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes; 0 means that the other side has closed.

        Raises:
            ConversationBroken: nothing came for `SILENCE` seconds.
        """

    def fileno(self) -> int:
        """Return a descriptor that gets readable when bytes or the end can be received."""

    def readable(self, seconds: float) -> bool:
        """Wait at most for so many seconds until bytes or the end can be received; say whether they can."""

    def hand(self, frame: bytes, fd: int) -> bool:
        """Send a frame and with it an open file, where the other side can be given one; say whether it was sent.

        Raises:
            ConversationBroken: as `send`.
        """

    def take(self) -> int:
        """Return the descriptor of the next file that was handed over; the caller closes it.

        Raises:
            ProtocolError: there is none.
        """

    def abort(self) -> None:
        """Make calls that wait in other threads end as if the other side had closed; the descriptors stay open until `close`."""

    def close(self) -> None:
        """Close; repeating is harmless. No other thread may be using the channel."""


class FdChannel:
    """A channel over two file descriptors, which may be the same.

    Args:
        read_fd: where bytes come from; becomes non-blocking.
        write_fd: where bytes go.
        on_close: what else has to end with the channel.
        silence: seconds to wait for progress; None waits for ever, which only an agent may do.
    """

    def __init__(
        self, read_fd: int, write_fd: int, on_close: Callable[[], None] | None = None, silence: float | None = SILENCE
    ) -> None:
        self._read, self._write = read_fd, write_fd
        self._on_close = on_close
        self._silence = silence
        self._closed = False
        for fd in {read_fd, write_fd}:
            os.set_blocking(fd, False)
            _widen(fd)

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send all of them, one after the other."""
        views = [memoryview(piece) for piece in pieces]
        while views:
            try:
                count = os.writev(self._write, views)
                while views and count >= len(views[0]):
                    count -= len(views.pop(0))
                if count:
                    views[0] = views[0][count:]
            except BlockingIOError:
                self._await(self._write, select.POLLOUT, self._silence)
            except OSError as exc:
                raise ConversationBroken(f"the connection broke: {exc.strerror}") from exc

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Have the kernel send bytes of an open file; return how many, 0 if it cannot or there are none."""
        while True:
            try:
                return os.sendfile(self._write, fd, offset, count)
            except BlockingIOError:
                self._await(self._write, select.POLLOUT, self._silence)
            except (BrokenPipeError, ConnectionResetError) as exc:
                raise ConversationBroken(f"the connection broke: {exc.strerror}") from exc
            except OSError:
                return 0

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes; 0 means that the other side has closed."""
        while True:
            try:
                return os.readv(self._read, [buffer])
            except BlockingIOError:
                self._await(self._read, select.POLLIN, self._silence)
            except OSError as exc:
                if exc.errno == errno.ECONNRESET:
                    return 0
                raise ConversationBroken(f"the connection broke: {exc.strerror}") from exc

    def hand(self, frame: bytes, fd: int) -> bool:
        """Send nothing: a file can be handed over on a Unix socket only."""
        del frame, fd
        return False

    def take(self) -> int:
        """Refuse."""
        raise ProtocolError("a file was announced that cannot come this way")

    def fileno(self) -> int:
        """Return the descriptor that bytes come from."""
        return self._read

    def readable(self, seconds: float) -> bool:
        """Wait at most for so many seconds until bytes or the end can be received; say whether they can."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    @staticmethod
    def _await(fd: int, event: int, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(None if seconds is None else seconds * 1000):
            raise ConversationBroken(f"no sign of life for {seconds:.0f} seconds", hint="sshmap health")

    def abort(self) -> None:
        """Shut the socket down, where it is one; a pipe's other end belongs to a process that ends by itself."""
        fd = os.dup(self._read)
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            return
        with sock, contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close both descriptors."""
        if not self._closed:
            self._closed = True
            for fd in {self._read, self._write}:
                os.close(fd)
            if self._on_close:
                self._on_close()


def _widen(fd: int) -> None:
    """Let a pipe hold more, where the system can do that and has the memory; leave other descriptors as they are."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
