"""What is printed reaches its reader: a pipe or a file, whatever the exit code; where it cannot, one line says so."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import COMMAND, CommandLine, Done

FAR = '[[hosts]]\nname = "far"\naddress = "127.0.0.1"\nport = 1\n'
#: arguments, exit code, what stdout has to hold
PRINTED = [
    (["ls", "-r", "sm://"], 0, "in/a"),
    (["jobs"], 0, "sm://mapped/"),
    (["where", "sm://in/"], 0, "sm://in/b"),
    (["cat", "sm://in/a"], 0, "one"),
    (["cp", "sm://in/a", "-"], 0, "one"),
    (["cat", "sm://damaged/k"], 5, ""),
    (["eval", "sm://in/a", "cat; exit 9"], 9, "one"),
    (["map", "--json", "sm://in/", "sm://failed/", "exit 7"], 1, '"failed":2'),
    (["fanout", "--json", "sm://in/", "sm://failed/", "exit 7"], 1, '"failed":2'),
    (["merge", "--json", "sm://in/", "sm://failed/", "exit 7"], 1, '"failed":2'),
    (["map", "--json", "sm://damaged/", "sm://failed/", "cat"], 5, '"failed":1'),
    (["cp", "-r", "--json", "tree", "sm://in/"], 4, '"failed":1'),
    (["exec", "echo said; exit 9"], 9, "said"),
    (["-i", "partly.toml", "health"], 3, "unhealthy: far"),
    (["-i", "partly.toml", "health", "--json"], 3, '"healthy":false'),
    (["-i", "partly.toml", "hosts"], 3, "unreachable"),
    (["-i", "partly.toml", "doctor"], 3, "far: "),
    (["-i", "partly.toml", "doctor", "--json"], 3, '"blocks":true'),
    (["-i", "partly.toml", "exec", "echo said"], 3, "said"),
]  # fmt: skip
SILENT = [["rm", "-r", "sm://nothing/"], ["up"], ["map", "sm://in/", "sm://mapped/", "cat"], ["cp", "sm://in/a", "out"]]


@pytest.fixture(scope="module")
def printing(shared: CommandLine) -> Iterator[CommandLine]:
    """The shared command line with a tree that cannot be copied, and an inventory of which one host is missing."""
    folder = shared.folder
    (folder / "tree").mkdir()
    (folder / "tree" / "a").write_text("other content")
    near = f'[[hosts]]\nname = "near"\nconnect = "local"\nroot = "{folder / "near"}"\n'
    (folder / "near.toml").write_text(near)
    (folder / "partly.toml").write_text(near + FAR)
    yield shared
    assert shared("-i", "near.toml", "down", "--purge", "-y", SSHMAP_LOCAL="").code == 0


def ways_out(commandline: CommandLine, arguments: list[str]) -> tuple[Done, Done]:
    """Run a command with its stdout piped, and with a file for it; return both."""
    line = shlex.join([*COMMAND, *arguments])
    unset = "unset SSHMAP_LOCAL; " if "-i" in arguments else ""
    piped = commandline.shell(f"{unset}{line} | cat; exit ${{PIPESTATUS[0]}}")
    filed = commandline.shell(f"{unset}{line} > printed; code=$?; cat printed; exit $code")
    return piped, filed


@pytest.mark.parametrize(("arguments", "code", "part"), PRINTED, ids=lambda value: ascii(value)[:60])
def test_output_reaches_a_pipe_and_a_file_whatever_the_exit_code(
    printing: CommandLine, arguments: list[str], code: int, part: str
) -> None:
    for done in ways_out(printing, arguments):
        assert (done.code, part in done.out.decode()) == (code, True), (done.out, done.err)
        if "--json" in arguments:
            json.loads(done.out)


def test_output_printed_before_a_signal_reaches_its_reader(printing: CommandLine) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        script = (
            "import os, signal, sys; from sshmap.cli import main, start; "
            f"main.run = lambda _: (print('printed'), os.kill(os.getpid(), {int(number)}), signal.pause()); start.main()"
        )
        done = printing.run([COMMAND[0], "-c", script])
        assert (done.code, done.out) == (code, b"printed\n")


@pytest.mark.parametrize(
    "arguments",
    [["cat", "sm://in/a"], ["ls", "sm://in/"], ["hosts"], ["eval", "sm://in/a", "cat"], ["exec", "echo said"]],
)
def test_output_that_cannot_be_written_is_one_line_and_its_exit_code(
    printing: CommandLine, arguments: list[str]
) -> None:
    line = shlex.join([*COMMAND, *arguments])
    for end, code, words in (
        ("> /dev/full", 6, "No space left"),
        (">&-", 2, "Bad file descriptor"),
        ("< /dev/null | :", 0, ""),
    ):
        done = printing.shell(f"{line} {end}")
        assert done.code == code, done.err
        assert [words in said for said in done.err.splitlines()] == ([True] if words else []), done.err


@pytest.mark.parametrize("arguments", SILENT, ids=" ".join)
def test_no_output_is_no_error_where_stdout_is_closed(printing: CommandLine, arguments: list[str]) -> None:
    done = printing.shell(f"{shlex.join([*COMMAND, *arguments])} >&-")
    assert "descriptor" not in done.err
    assert done.code in (0, 1)


def test_any_name_can_be_printed_in_any_encoding(printing: CommandLine) -> None:
    printing.succeed("cp", "-", "sm://named/é", stdin=b"x")
    for variables in (
        {"LC_ALL": "C"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        done = printing.run([*COMMAND, "ls", "sm://named/"], variables=variables)
        assert (done.code, done.err) == (0, "")
        assert done.out.endswith(("é\n".encode(), b"\\xe9\n"))
    printing.succeed("rm", "sm://named/é")


def test_the_c_locale_is_enough_for_every_content(printing: CommandLine) -> None:
    content = bytes(range(256))
    assert printing("cp", "-", "sm://c/ü", stdin=content, LC_ALL="C").code == 0
    assert printing("cat", "sm://c/ü", LC_ALL="C").out == content
    assert printing("eval", "sm://c/ü", "cat", LC_ALL="C").out == content
    assert "sm://c/ü" in printing("map", "sm://c/", "sm://d/", "false", LC_ALL="C").err
    printing.succeed("rm", "-r", "sm://c/")
