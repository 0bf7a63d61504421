"""A byte stream in memory, for tests of what goes over one."""

from __future__ import annotations


class MemoryStream:
    """Keeps what is sent and gives out what it was made with.

    Args:
        content: what can be received.
        piece: how many bytes come at once.
    """

    def __init__(self, content: bytes = b"", piece: int = 1 << 30) -> None:
        self.sent = bytearray()
        self.sends = 0
        #: length of the longest buffer that was held out
        self.widest = 0
        self._rest = memoryview(content)
        self._piece = piece

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send all of them."""
        self.sent += b"".join(pieces)
        self.sends += 1

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send nothing: no kernel stands behind it."""
        del fd, offset, count
        return 0

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes; 0 means the end."""
        self.widest = max(self.widest, len(buffer))
        count = min(len(buffer), self._piece, len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
