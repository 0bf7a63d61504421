"""What is kept of a command's stderr."""

from __future__ import annotations

#: bytes kept of the beginning of a stream, and as many of its end
HALF = 4096


class Tail:
    """Keeps the beginning and the end of a stream of any length."""

    def __init__(self) -> None:
        self._head, self._end, self._dropped = b"", b"", 0

    def add(self, piece: bytes) -> None:
        """Take some more."""
        room = HALF - len(self._head)
        self._head += piece[:room]
        rest = self._end + piece[room:] if room < len(piece) else self._end
        self._dropped += max(0, len(rest) - HALF)
        self._end = rest[-HALF:]

    def text(self) -> bytes:
        """Return what was kept, with a note of what was not."""
        gap = b"\n[... %d bytes ...]\n" % self._dropped if self._dropped else b""
        return self._head + gap + self._end
