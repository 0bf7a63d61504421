"""Looking at runs as it is typed: through pipes, as JSON, with odd names, on plain terminals; and with which code each verb exits."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import CommandLine, ended

NAMES = ("plain", "sp ace", "qu'ote", "-dash", "日本")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Two hosts with two runs: the first is done, of the second one task has failed, and all have said much."""
    with ended(CommandLine(tmp_path_factory.mktemp("looking"))) as typed:
        typed.environment["SSHMAP_LOCAL"] = "2"
        files = typed.folder / "files"
        files.mkdir()
        for name in NAMES:
            (files / name).write_text(f"content of {name}\n")
        typed.succeed("cp", "-r", "files", "sm://b/in/d d")
        typed.succeed("map", "sm://b/in/", "sm://b/one/", "cat")
        failed = typed("map", "sm://b/in/", "sm://b/two/", "seq 900 >&2; test \"$filename\" != 'sp ace'")
        assert failed.code == 1, failed.err
        yield typed


@pytest.mark.parametrize("verb", ["jobs", "jobs last", "jobs last --joblog", "jobs --json", "logs"])
def test_pipe_that_closes_ends_the_command_without_a_word(hosts: CommandLine, verb: str) -> None:
    done = hosts.shell(f"set -o pipefail; sshmap {verb} | true")
    assert (done.code in (0, 141), done.err) == (True, "")


def test_names_stay_whole_in_json(hosts: CommandLine) -> None:
    rows = json.loads(hosts.succeed("jobs", "last", "--json").out)
    assert {row["key"] for row in rows} == {f"sm://b/in/d d/{name}" for name in NAMES}
    (failed,) = (row for row in rows if row["outcome"] == "failed")
    assert (failed["key"], failed["exit"], failed["attempt"]) == ("sm://b/in/d d/sp ace", 1, 1)


def test_newlines_of_a_command_do_not_break_lines(hosts: CommandLine) -> None:
    hosts.succeed("map", "sm://b/in/", "sm://b/three/", "cat\ntrue\t# \x1b[2J")
    table = hosts.succeed("jobs").lines
    assert ("cat true" in table[1], "\x1b" in table[1]) == (True, False)
    head, *rows = hosts.succeed("jobs", "last", "--joblog").lines
    assert {line.count("\t") for line in rows} == {head.count("\t")}
    assert len(rows) == len(NAMES)
    assert "cat\ntrue" in json.loads(hosts.succeed("jobs", "--json").out)[0]["command"]


def test_logs_are_those_of_the_key_that_is_named(hosts: CommandLine) -> None:
    lines = hosts.succeed("logs", "2", "--key", "sm://b/in/d d/sp ace", "--failed").lines
    assert lines[0].startswith("==> sm://b/in/d d/sp ace on ")
    assert "attempt 1: failed, exit 1" in lines[0]
    assert not [line for line in lines[1:] if line.startswith("==>")]
    assert hosts.succeed("logs", "2", "--key", "sm://b/in/none").out == b""


KEY, FAILED = "sm://b/in/d d/plain", "sm://b/in/d d/sp ace"
CODES: dict[tuple[str, ...], int] = {
    ("jobs",): 0, ("jobs", "1"): 0, ("jobs", "70000"): 1, ("jobs", "²"): 1, ("jobs", "--joblog"): 0, ("logs", "70000"): 1,
    ("logs", "2"): 0, ("wait", "1"): 0, ("wait", "2"): 1, ("attach", "2"): 1, ("attach", "70000"): 1, ("cancel", "70000"): 1,
    ("cancel", "1"): 0, ("retry", "70000"): 1, ("retry", "1"): 0, ("retry", "2"): 1, ("retry", "1", "--jobs", "0"): 2,
    ("report", "70000"): 1, ("report", "1", "-o", "files/plain/page"): 2, ("report", "1", "2", "-o", "page.html"): 0, ("top",): 2,
    ("gc", "--older", "soon"): 2, ("gc", "--older", "9d"): 0, ("shell", "sm://b/none", "-c", "true"): 1,
    ("shell", KEY, "-c", "exit 7"): 7, ("shell", KEY): 2, ("shell", FAILED, "--failed", "2", "-c", "true"): 0,
    ("shell", KEY, "--failed", "2", "-c", "true"): 1,
}  # fmt: skip


@pytest.mark.parametrize("words", CODES, ids=" ".join)
def test_exit_code_says_how_it_went(hosts: CommandLine, words: tuple[str, ...]) -> None:
    done = hosts(*words)
    assert done.code == CODES[words], done.err
    assert "a bug in sshmap" not in done.err


def test_top_shows_hosts_without_colours(hosts: CommandLine) -> None:
    with hosts.terminal("top", NO_COLOR="1", TERM="xterm-256color") as terminal:
        terminal.await_shown(b"local1")
        terminal.type("q")
        assert terminal.end() == 0


def test_top_is_refused_by_a_terminal_that_cannot_move_its_cursor(hosts: CommandLine) -> None:
    with hosts.terminal("top", TERM="dumb") as terminal:
        assert terminal.end() == 2
    assert b"hint: sshmap jobs" in terminal.shown
