"""A channel over a Unix socket: both sides are on one machine, so open files can be handed over instead of copied."""

from __future__ import annotations

import errno
import os
import select
import socket
from array import array
from collections import deque
from collections.abc import Callable

from sshmap.errors import ConversationBroken, ProtocolError
from sshmap.transport.channel import SILENCE, FdChannel

BUFFER = 1 << 20
_ROOM = socket.CMSG_SPACE(16 * array("i").itemsize)
#: macOS has no such flag
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class UnixChannel(FdChannel):
    """A channel over a connected Unix socket.

    Args:
        sock: the socket; belongs to the channel.
        on_close: what else has to end with the channel.
        silence: as for `FdChannel`.
    """

    def __init__(
        self, sock: socket.socket, on_close: Callable[[], None] | None = None, silence: float | None = SILENCE
    ) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        # an object for calls that only a socket has; FdChannel closes the descriptor
        self._socket = socket.socket(fileno=sock.detach())
        self._taken: deque[int] = deque()
        super().__init__(self._socket.fileno(), self._socket.fileno(), on_close, silence)

    def hand(self, frame: bytes, fd: int) -> bool:
        """Send a frame and with it an open file; False, and nothing sent, if too many files are on their way."""
        while True:
            try:
                count = socket.send_fds(self._socket, [frame], [fd])
                break
            except BlockingIOError:
                self._await(self.fileno(), select.POLLOUT, self._silence)
            except OSError as exc:
                if exc.errno == errno.ETOOMANYREFS:
                    return False
                raise ConversationBroken(f"the connection broke: {exc.strerror}") from exc
        self.send(frame[count:])
        return True

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes, and files that were sent with them; 0 means that the other side has closed."""
        while True:
            try:
                count, ancillary, _, _ = self._socket.recvmsg_into([buffer], _ROOM, _CLOEXEC)
            except BlockingIOError:
                self._await(self.fileno(), select.POLLIN, self._silence)
            except ConnectionResetError:
                return 0
            except OSError as exc:
                raise ConversationBroken(f"the connection broke: {exc.strerror}") from exc
            else:
                for level, kind, content in ancillary:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        self._taken.extend(array("i", content[: len(content) // 4 * 4]))
                return count

    def take(self) -> int:
        """Return the descriptor of the next file that was handed over; the caller closes it."""
        if not self._taken:
            raise ProtocolError("a file was announced that did not come")
        return self._taken.popleft()

    def close(self) -> None:
        """Close the socket, and the files that were received and not taken."""
        while self._taken:
            os.close(self._taken.popleft())
        if not self._closed:
            self._socket.detach()
        super().close()
