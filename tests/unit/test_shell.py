"""Which commands are started without a shell, and what is kept of endless stderr."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.agent.execution.plain import plain_words
from sshmap.agent.execution.tail import HALF, Tail

PLAIN = {
    "cat": ["cat"],
    "/usr/bin/sort -k1,1 -t, --parallel=1": ["/usr/bin/sort", "-k1,1", "-t,", "--parallel=1"],
    "cut -d, -f1-5": ["cut", "-d,", "-f1-5"],
    "grep 'a b|c;$d'": ["grep", "a b|c;$d"],
    'grep "a b|c;d" x"y z"\'w\'': ["grep", "a b|c;d", "xy zw"],
    "awk '{print $1}' ''": ["awk", "{print $1}", ""],
    "dd if=a.txt bs=1": ["dd", "if=a.txt", "bs=1"],
    "./run.sh x": ["./run.sh", "x"],
    "python3 -c 'print(1)'": ["python3", "-c", "print(1)"],
    " cat \n": ["cat"],
}
NOT_PLAIN = [
    "",
    "cat | wc",
    "cat; wc",
    "cat && wc",
    "cat &",
    "cat $filename",
    'cat "$filename"',
    "cat `id`",
    "cat > out",
    "cat < in",
    "cat *.txt",
    "cat ~/x",
    "cat {a,b}",
    "cat # note",
    "cat\nwc",
    "cat 'a\nb'",
    "A=1 cat",
    "A=1",
    "(cat)",
    "{ cat; }",
    "! cat",
    "cat a\\ b",
    'grep "a\\b"',
    "-c cat",
    "$SHELL x",
]
BUILTINS = [
    "cd /",
    "echo hi",
    "exit 3",
    "true",
    "test -f x",
    "[ -f x ]",
    "printf x",
    "read x",
    "time cat",
    "if x",
    "exec cat",
    "source x",
    ". x",
    ":",
]


@pytest.mark.parametrize(("command", "words"), PLAIN.items())
def test_plain_program_is_started_with_its_words(command: str, words: list[str]) -> None:
    assert plain_words(command) == tuple(words)


@pytest.mark.parametrize("command", [*NOT_PLAIN, *BUILTINS])
def test_anything_else_is_left_to_the_shell(command: str) -> None:
    assert not plain_words(command)


def tail_of(pieces: list[bytes]) -> bytes:
    tail = Tail()
    for piece in pieces:
        tail.add(piece)
    return tail.text()


@given(st.lists(st.binary(max_size=HALF // 4), max_size=8))
def test_short_stream_is_kept_whole(pieces: list[bytes]) -> None:
    assert tail_of(pieces) == b"".join(pieces)


@given(st.lists(st.integers(1, 3 * HALF), min_size=1, max_size=8))
def test_long_stream_is_kept_as_head_and_tail(cuts: list[int]) -> None:
    stream = bytes(number % 251 for number in range(sum(cuts) + 2 * HALF + 1))
    starts = [sum(cuts[:index]) for index in range(len(cuts) + 1)]
    pieces = [stream[start:stop] for start, stop in zip(starts, [*starts[1:], len(stream)], strict=True)]
    gap = b"\n[... %d bytes ...]\n" % (len(stream) - 2 * HALF)
    assert tail_of(pieces) == stream[:HALF] + gap + stream[-HALF:]


def test_endless_stream_takes_bounded_memory() -> None:
    tail = Tail()
    tail.add(b"first")
    for _ in range(1000):
        tail.add(bytes(65536))
        assert len(tail.text()) < 3 * HALF
    tail.add(b"last")
    assert tail.text().startswith(b"first")
    assert tail.text().endswith(b"last")
