"""Frames come out as they went in, and nothing else is taken for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.errors import ConversationBroken, HostLost, ProtocolError
from sshmap.protocol.framing import DATA, HEADER, MAX_DATA, MAX_MESSAGE, MESSAGE, FrameReader, FrameWriter
from sshmap.protocol.messages import Has, Message, Ping, Served, Tick
from tests.unit.streams import MemoryStream

KIB = 1024
SIZES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 256 * KIB, 512 * KIB + 1, MAX_DATA]

frames = st.lists(
    st.binary(min_size=1, max_size=300) | st.text(max_size=20).map(lambda name: Has(name=name)), max_size=20
)


def written(*content: bytes | Message) -> bytes:
    stream = MemoryStream()
    writer = FrameWriter(stream)
    for one in content:
        if isinstance(one, Message):
            writer.message(one, flush=False)
        else:
            writer.data(one)
    writer.flush()
    return bytes(stream.sent)


def read_all(content: bytes, piece: int = 1 << 30) -> list[bytes | Message]:
    reader = FrameReader(MemoryStream(content, piece))
    found: list[bytes | Message] = []
    while (frame := reader.read()) is not None:
        found.append(bytes(frame) if isinstance(frame, memoryview) else frame)
    return found


@pytest.mark.parametrize("size", [size for size in SIZES if size])
@pytest.mark.parametrize("piece", [1000, 64 * KIB, 1 << 30])
def test_data_of_any_size_comes_out_as_it_went_in(size: int, piece: int) -> None:
    content = bytes(number % 251 for number in range(size))
    assert read_all(written(Ping(), content, Ping(), content), piece) == [Ping(), content, Ping(), content]


@pytest.mark.parametrize("size", SIZES)
def test_open_file_is_written_as_content(size: int, tmp_path: Path) -> None:
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(content + b"more")
    assert file_written(tmp_path / "file", size) == (True, content)


@pytest.mark.parametrize("lacks", [1, 200, 200 * KIB, 300 * KIB])
def test_frames_are_filled_where_the_file_ends_early(lacks: int, tmp_path: Path) -> None:
    """What follows is still read as frames."""
    (tmp_path / "file").write_bytes(b"x" * (300 * KIB - lacks))
    assert file_written(tmp_path / "file", 300 * KIB) == (False, b"x" * (300 * KIB - lacks) + bytes(lacks))


def file_written(path: Path, size: int) -> tuple[bool, bytes]:
    """Write a file's content between two messages; return whether it was whole, and what came out."""
    stream = MemoryStream()
    writer = FrameWriter(stream)
    writer.message(Ping(), flush=False)
    with path.open("rb") as file:
        whole = writer.file(file.fileno(), size)
    writer.message(Ping())
    first, *content, last = read_all(bytes(stream.sent))
    assert (first, last) == (Ping(), Ping())
    return whole, b"".join(piece for piece in content if isinstance(piece, bytes))


@given(frames, st.integers(1, 400))
def test_frames_keep_their_order_however_they_arrive(content: list[bytes | Message], piece: int) -> None:
    assert read_all(written(*content), piece) == content


def test_many_small_frames_come_in_one_piece() -> None:
    content = [Has(name=f"b/{number}") for number in range(5000)]
    assert read_all(written(*content)) == content


def test_small_frames_are_sent_together() -> None:
    stream = MemoryStream()
    writer = FrameWriter(stream)
    for _ in range(1000):
        writer.message(Ping(), flush=False)
    assert stream.sends == 0
    writer.flush()
    assert stream.sends == writer.sends == 1


def test_small_files_are_sent_together(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    stream = MemoryStream()
    writer = FrameWriter(stream)
    with (tmp_path / "file").open("rb") as file:
        for _ in range(1000):
            assert writer.file(file.fileno(), 100)
    assert stream.sends == 0
    writer.flush()
    assert read_all(bytes(stream.sent)) == [b"x" * 100] * 1000


def test_message_is_sent_at_once_unless_told_otherwise() -> None:
    stream = MemoryStream()
    FrameWriter(stream).message(Ping())
    assert read_all(bytes(stream.sent)) == [Ping()]


def test_signs_of_life_are_not_seen_by_the_reader() -> None:
    assert read_all(written(Tick(), Ping(), Tick(), b"data", Tick())) == [Ping(), b"data"]


def test_end_of_stream_between_frames_is_no_error() -> None:
    reader = FrameReader(MemoryStream(written(Ping())))
    assert reader.read() == Ping()
    assert reader.read() is None
    assert reader.read() is None


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (DATA, MAX_DATA + 1),
        (DATA, 2**32 - 1),
        (MESSAGE, MAX_MESSAGE + 1),
        (MESSAGE, 2**32 - 1),
        (2, 0),
        (255, 0),
        (DATA, 0),
        (MESSAGE, 0),
    ],
)
def test_frame_that_is_too_long_or_empty_or_unknown_is_refused_before_room_is_made(kind: int, length: int) -> None:
    stream = MemoryStream(HEADER.pack(length, kind) + b"x" * 10)
    with pytest.raises(ProtocolError, match="bad frame"):
        FrameReader(stream).read()
    assert stream.widest <= MAX_DATA


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 100, b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_all(garbage)


@given(st.binary(max_size=200))
def test_anything_else_is_refused_as_an_error_of_protocol(garbage: bytes) -> None:
    try:
        read_all(garbage)
    except HostLost:
        return


@given(st.integers(1, 400))
def test_stream_cut_within_a_frame_is_an_error(missing: int) -> None:
    whole = written(b"x" * 200, Served(count=7))
    last = len(whole) - len(written(Served(count=7)))
    kept = whole[: max(1, len(whole) - missing)]
    if len(kept) == last:
        return
    with pytest.raises(ConversationBroken, match="middle"):
        read_all(kept)


def test_buffered_says_whether_a_frame_may_be_at_hand() -> None:
    reader = FrameReader(MemoryStream(written(Ping(), Ping())))
    assert not reader.buffered
    reader.read()
    assert reader.buffered
    reader.read()
    assert not reader.buffered


def test_bytes_put_back_are_read_first() -> None:
    whole = written(Ping(), Served(count=7))
    reader = FrameReader(MemoryStream(whole[3:]))
    reader.unread(whole[:3])
    assert [reader.read(), reader.read(), reader.read()] == [Ping(), Served(count=7), None]


def test_readers_share_a_decoder_as_making_two_at_once_crashes() -> None:
    """In processes of their own, as only the first decoders of a process are made from nothing."""
    program = """
import sys, threading
from sshmap.protocol.framing import FrameReader
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(4)
def make():
    barrier.wait()
    FrameReader(None)
threads = [threading.Thread(target=make) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert [subprocess.run([sys.executable, "-c", program], check=False).returncode for _ in range(5)] == [0] * 5
    one, other = (FrameReader(MemoryStream(b"")) for _ in range(2))
    assert one._decode == other._decode
