"""What ad hoc commands say: cut into lines, told one call at a time, kept up to a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.client.commands import LONGEST_LINE, Heard, LimitedOutput, Lines, SerialCallback

PIECES = st.lists(st.text("ab\n", max_size=9).map(str.encode), max_size=9)


def lines_of(pieces: list[bytes]) -> list[bytes]:
    told: list[Heard] = []
    lines = Lines("h1", SerialCallback(told.append), error=False)
    for piece in pieces:
        lines.write(memoryview(piece))
    lines.close()
    return [line for heard in told for line in heard.lines]


@given(PIECES)
def test_lines_are_the_same_however_they_arrive(pieces: list[bytes]) -> None:
    assert lines_of(pieces) == b"".join(pieces).splitlines()


def test_a_line_is_told_as_soon_as_it_has_ended() -> None:
    told: list[Heard] = []
    lines = Lines("h1", SerialCallback(told.append), error=True)
    lines.write(b"one\r\ntw")
    assert told == [Heard(host="h1", lines=(b"one",), error=True)]
    lines.write(b"o\n")
    assert told[1:] == [Heard(host="h1", lines=(b"two",), error=True)]


def test_a_line_without_end_is_told_in_parts() -> None:
    parts = lines_of([bytes(LONGEST_LINE // 2)] * 7)
    assert b"".join(parts) == bytes(LONGEST_LINE // 2 * 7)
    assert max(map(len, parts)) <= 2 * LONGEST_LINE


def test_nothing_is_told_after_the_callback_has_raised() -> None:
    told: list[Heard] = []

    def refuse(heard: Heard) -> None:
        told.append(heard)
        raise BrokenPipeError

    callback = SerialCallback(refuse)
    for host in ("h1", "h2"):
        with pytest.raises(BrokenPipeError):
            Lines(host, callback, error=False).write(b"line\n")
    assert [heard.host for heard in told] == ["h1"]


@given(PIECES, st.integers(0, 20))
def test_the_beginning_is_kept_and_the_rest_counted(pieces: list[bytes], limit: int) -> None:
    kept = LimitedOutput(limit)
    for piece in pieces:
        kept.write(piece)
    whole = b"".join(pieces)
    assert (kept.content, kept.dropped) == (whole[:limit], max(0, len(whole) - limit))
