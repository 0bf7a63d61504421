"""The marker that tells frames from noise.

A login shell may print anything before the agent starts. The agent's frames begin
after a line the client chose at random, so nothing printed by chance can be taken
for them.
"""

from __future__ import annotations

import re
import secrets

from sshmap.errors import ConversationBroken, ProtocolError
from sshmap.protocol.framing import Bytes, FrameReader

MAX_NOISE = 64 * 1024
_LINE = re.compile(rb"sshmap [0-9a-f]{32}\n")
_LENGTH = 40


def new_marker() -> bytes:
    """Return a marker line with 128 random bits."""
    return b"sshmap " + secrets.token_hex(16).encode() + b"\n"


def await_marker(stream: Bytes, reader: FrameReader, marker: bytes) -> None:
    """Skip noise up to the marker.

    Raises:
        ProtocolError: it did not come within 64 KiB; the noise is quoted.
        ConversationBroken: the host ended the session.
    """
    seen = bytearray()
    piece = memoryview(bytearray(4096))
    while (at := seen.find(marker)) < 0 and len(seen) <= MAX_NOISE + len(marker):
        count = stream.recv_into(piece)
        if not count:
            raise ConversationBroken(
                f"the host ended the session before the agent answered{quote(seen)}", hint="sshmap up"
            )
        seen += piece[:count]
    if not 0 <= at <= MAX_NOISE:
        raise ProtocolError(
            f"the host printed {MAX_NOISE // 1024} KiB before the agent answered{quote(seen[:MAX_NOISE])}",
            hint="look for what prints in its shell start-up files",
        )
    reader.unread(bytes(seen[at + len(marker) :]))


def read_marker(stream: Bytes) -> bytes:
    """Read the client's marker line, on the agent's side.

    Raises:
        ProtocolError: something else came.
        ConversationBroken: the session ended.
    """
    line = bytearray()
    while len(line) < _LENGTH:
        piece = memoryview(bytearray(_LENGTH - len(line)))
        count = stream.recv_into(piece)
        if not count:
            raise ConversationBroken("the session ended before the marker")
        line += piece[:count]
    if not _LINE.fullmatch(line):
        raise ProtocolError("this is sshmap's agent; it is started by sshmap")
    return bytes(line)


def quote(noise: bytes | bytearray) -> str:
    """Quote what a host printed, shortened, with control characters escaped."""
    text = bytes(noise[-300:]).decode("utf-8", "replace").strip()
    return f": {text!r}" if text else ""
