"""The marker tells frames from noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.errors import HostLost, ProtocolError
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import MAX_NOISE, await_marker, new_marker, read_marker
from sshmap.protocol.messages import Ping, Served
from tests.unit.streams import MemoryStream

MARKER = b"sshmap 0123456789abcdef0123456789abcdef\n"


def answer(noise: bytes) -> bytes:
    stream = MemoryStream()
    stream.send(noise + MARKER)
    FrameWriter(stream).message(Ping())
    FrameWriter(stream).message(Served(count=7))
    return bytes(stream.sent)


def frames_after(content: bytes, piece: int) -> list[object]:
    stream = MemoryStream(content, piece)
    reader = FrameReader(stream)
    await_marker(stream, reader, MARKER)
    return [reader.read(), reader.read(), reader.read()]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, MAX_NOISE - 1, MAX_NOISE])
@pytest.mark.parametrize("piece", [7, 4096])
def test_noise_before_the_marker_is_skipped(size: int, piece: int) -> None:
    assert frames_after(answer(b"n" * size), piece) == [Ping(), Served(count=7), None]


@given(st.binary(max_size=200), st.integers(1, 50))
def test_noise_may_be_anything(noise: bytes, piece: int) -> None:
    assert frames_after(answer(noise), piece) == [Ping(), Served(count=7), None]


def test_noise_may_look_like_another_marker() -> None:
    assert frames_after(answer(new_marker() + MARKER[:-2]), 5) == [Ping(), Served(count=7), None]


@pytest.mark.parametrize("content", [b"n" * (MAX_NOISE + 1) + MARKER, b"n" * (1 << 20)])
def test_more_noise_is_refused_and_quoted(content: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"64 KiB.*nnn") as caught:
        frames_after(content, 4096)
    assert caught.value.hint


def test_noise_is_quoted_when_the_host_hangs_up() -> None:
    with pytest.raises(HostLost, match="python3: command not found"):
        frames_after(b"bash: python3: command not found\n", 4096)


def test_quoted_noise_cannot_drive_a_terminal() -> None:
    with pytest.raises(HostLost) as caught:
        frames_after(b"\x1b[31m\r\nred\xff", 4096)
    assert caught.value.message.isprintable()


def test_silent_host_is_an_error() -> None:
    with pytest.raises(HostLost, match="ended the session"):
        frames_after(b"", 4096)


def test_every_session_has_a_marker_of_its_own() -> None:
    assert new_marker() != new_marker()


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_agent_reads_the_marker_and_no_byte_more(piece: int) -> None:
    marker = new_marker()
    stream = MemoryStream(marker + b"rest", piece)
    assert read_marker(stream) == marker
    assert stream.recv_into(memoryview(bytearray(10))) == min(4, piece)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n" * 4, MARKER.upper(), b"x" + MARKER, MARKER[:-1], b""])
def test_agent_refuses_anything_else(line: bytes) -> None:
    with pytest.raises(HostLost):
        read_marker(MemoryStream(line))
