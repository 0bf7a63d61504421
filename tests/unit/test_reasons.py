"""Why a command failed, in words: its exit code, the signal, the command of a pipeline that was cut off, what it said."""

from __future__ import annotations

import pytest

from sshmap.agent.daemon.reasons import reason
from sshmap.agent.execution.executor import Result

CUT = (
    "was cut off by a later command of the pipeline (pipefail); end it with `|| true`, or put `set +o pipefail;` first"
)
#: exit code, command, what it said, the reason
REASONS = [
    (1, "false", b"", "exit 1"),
    (2, "grep x", b"grep: no\n", "exit 2: grep: no"),
    (137, "x", b"", "exit 137 (signal 9)"),
    (143, "x", b"Terminated", "exit 143 (signal 15): Terminated"),
    (255, "ssh", b"", "exit 255"),
    (141, "sort | head", b"", f"exit 141 (signal 13): `sort` {CUT}"),
    (141, "sort -n -k1,1 | uniq -c | head -3", b"", f"exit 141 (signal 13): `sort` or `uniq` {CUT}"),
    (141, "export X=1; LC_ALL=C sort $f | head -1 > out; wc -l", b"", f"exit 141 (signal 13): `sort` {CUT}"),
    (141, "cat a && (zcat b | head)", b"", f"exit 141 (signal 13): `zcat` {CUT}"),
    (141, "zcat b |\n  head", b"", f"exit 141 (signal 13): `zcat` {CUT}"),
    (141, "yes", b"", "exit 141 (signal 13)"),
    (141, "echo 'unfinished | head", b"", "exit 141 (signal 13)"),
    (141, "awk '{ print | \"sort\" }'", b"", "exit 141 (signal 13)"),
    (141, "sort | head", b"sort: write failed", f"exit 141 (signal 13): `sort` {CUT}: sort: write failed"),
]


@pytest.mark.parametrize(("code", "command", "said", "words"), REASONS)
def test_reason_names_code_signal_and_what_was_cut_off(code: int, command: str, said: bytes, words: str) -> None:
    assert reason(Result(exit_code=code, stderr=said), command) == words


def test_only_the_end_of_what_a_command_said_is_passed_on() -> None:
    words = reason(Result(exit_code=1, stderr=b"x" * 5000 + b"\nlast words\n"), "false")
    assert len(words) < 2100
    assert words.endswith("\nlast words")


def test_what_is_no_text_is_passed_on_as_well() -> None:
    assert reason(Result(exit_code=1, stderr=b"\xff\xfe"), "false") == "exit 1: \ufffd\ufffd"


def test_of_many_programs_a_few_are_named() -> None:
    words = reason(Result(exit_code=141, stderr=b""), "|".join(f"p{number}{'x' * 999}" for number in range(200)))
    assert words.count("`p") == 3
    assert len(words) < 500
