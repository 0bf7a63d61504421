"""What every channel keeps, seen with an agent at its other end."""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap.errors import HostLost
from sshmap.protocol.framing import FrameWriter
from sshmap.protocol.handshake import new_marker
from sshmap.transport.channel import Channel
from tests.contract.conftest import Connect

#: seconds that any answer may take
LIMIT = 20.0
NO_FRAME = b"\xff" * 40


def receive(channel: Channel, count: int, piece: int = 1 << 16) -> bytes:
    found = bytearray()
    while len(found) < count:
        buffer = memoryview(bytearray(min(piece, count - len(found))))
        got = channel.recv_into(buffer)
        assert got
        found += buffer[:got]
    return bytes(found)


def ended(connect: Connect) -> Channel:
    """Return a channel to an agent that has answered and then ended, as what it was sent is no frame."""
    channel, marker = connect(), new_marker()
    channel.send(marker)
    assert receive(channel, len(marker)) == marker
    channel.send(NO_FRAME)
    while channel.recv_into(memoryview(bytearray(1 << 16))):
        pass
    return channel


@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_bytes_come_back_however_small_the_buffer(connect: Connect, piece: int) -> None:
    channel, marker = connect(), new_marker()
    channel.send(marker)
    assert receive(channel, len(marker), piece) == marker


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_anything_like_bytes_can_be_sent(connect: Connect, kind: Callable[[bytes], bytes]) -> None:
    channel, marker = connect(), new_marker()
    channel.send(kind(marker[:10]))
    channel.send(kind(b""))
    channel.send(kind(marker[10:]))
    assert receive(channel, len(marker)) == marker


def test_silent_channel_is_not_readable(connect: Connect) -> None:
    assert not connect().readable(0)


def test_channel_is_readable_when_bytes_are_there(connect: Connect) -> None:
    channel = connect()
    channel.send(new_marker())
    assert channel.readable(LIMIT)


def test_descriptor_can_be_polled(connect: Connect) -> None:
    channel = connect()
    channel.send(new_marker())
    assert select.select([channel.fileno()], [], [], LIMIT)[0]


def test_end_is_readable_and_received_as_nothing_again_and_again(connect: Connect) -> None:
    channel = ended(connect)
    assert channel.readable(LIMIT)
    assert [channel.recv_into(memoryview(bytearray(10))) for _ in range(3)] == [0, 0, 0]


def test_sending_to_an_ended_agent_is_a_lost_host(connect: Connect) -> None:
    channel = ended(connect)
    with pytest.raises(HostLost):
        channel.send(bytes(64 << 20))


def test_open_file_is_sent_as_far_as_the_channel_says(connect: Connect, tmp_path: Path) -> None:
    channel, marker = connect(), new_marker()
    (tmp_path / "file").write_bytes(b"before" + marker + b"after")
    with (tmp_path / "file").open("rb") as file:
        sent = channel.send_file(file.fileno(), len(b"before"), len(marker))
        channel.send(marker[sent:])
        assert receive(channel, len(marker)) == marker
        assert file.tell() == 0


def test_sending_a_file_to_an_ended_agent_is_a_lost_host(connect: Connect, tmp_path: Path) -> None:
    channel = ended(connect)
    with (tmp_path / "file").open("wb+") as file:
        file.truncate(64 << 20)
        with pytest.raises(HostLost):
            FrameWriter(channel).file(file.fileno(), 64 << 20)


def test_closing_again_is_harmless(connect: Connect) -> None:
    channel = connect()
    channel.close()
    channel.close()


def test_channels_to_one_host_do_not_mix(connect: Connect) -> None:
    channels, markers = [connect(), connect()], [new_marker(), new_marker()]
    for channel, marker in zip(channels, markers, strict=True):
        channel.send(marker)
    assert [receive(channel, 40) for channel in channels] == markers
