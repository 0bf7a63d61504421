"""Tab in a real bash, on a terminal: keys, directories and hosts."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import typer

from sshmap import Cluster
from sshmap.cli.app import app
from sshmap.cli.completion import joined, offer_keys
from sshmap.client.listing import Folder
from tests.acceptance.conftest import LIMIT, CommandLine
from tests.conftest import processes_below, wait_until

PROMPT = "ready> "


class Terminal:
    """An interactive bash that has the completion installed.

    Args:
        commandline: its environment.
    """

    def __init__(self, commandline: CommandLine) -> None:
        self._ours, its = os.openpty()
        environment = {**commandline.environment, "PS1": PROMPT, "TERM": "dumb", "INPUTRC": "/dev/null"}
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"], stdin=its, stdout=its, stderr=its, env=environment,
            cwd=commandline.folder, start_new_session=True,
        )  # fmt: skip
        os.close(its)
        self._await(PROMPT)
        self.enter('bind "set show-all-if-ambiguous on"; eval "$(_SSHMAP_COMPLETE=source_bash sshmap)"')

    def enter(self, line: str) -> str:
        """Type a line, and return what was shown until the next prompt."""
        os.write(self._ours, f"{line}\n".encode())
        return self._await(PROMPT)

    def complete(self, line: str) -> str:
        """Type a line with Tab at its end; return it as it is then shown, once nothing more comes."""
        os.write(self._ours, f"{line}\t".encode())
        shown = self._await(line)
        os.write(self._ours, b"#")
        shown += self._await("#")
        os.write(self._ours, b"\x15\n")
        self._await(PROMPT)
        return re.sub(r"[\x07\x08]", "", shown)

    def _await(self, text: str) -> str:
        shown, end = b"", time.monotonic() + LIMIT
        while text.encode() not in shown:
            assert select.select([self._ours], [], [], end - time.monotonic())[0], shown
            shown += os.read(self._ours, 65536)
        return shown.decode()

    def close(self) -> None:
        """End bash."""
        self._bash.kill()
        self._bash.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(typed: CommandLine) -> Iterator[Terminal]:
    """A terminal at which the built-in cluster of two has some keys and is up."""
    typed.environment["SSHMAP_LOCAL"] = "2"
    for name in ("logs/monday", "logs/tuesday", "logs/deep/er/only one", "lots"):
        typed.succeed("cp", "-", f"sm://bucket/{name}", stdin=b"1")
    terminal = Terminal(typed)
    with contextlib.closing(terminal):
        yield terminal


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("sshmap ls sm://buc", "sshmap ls sm://bucket/lo"),
        ("sshmap cat sm://bucket/logs/mon", "sshmap cat sm://bucket/logs/monday "),
        ("sshmap cp sm://bucket/logs/t", "sshmap cp sm://bucket/logs/tuesday "),
        ("sshmap rm sm://bucket/logs/deep/", r"sshmap rm sm://bucket/logs/deep/er/only\ one "),
        ("sshmap cat sm://bucket/nothing", "sshmap cat sm://bucket/nothing"),
        ("sshmap cp sm:/b", "sshmap cp sm:/b"),
        ("sshmap cat 'sm://bucket/logs/mon", "sshmap cat 'sm://bucket/logs/monday' "),
        ('sshmap cat "sm://bucket/logs/deep/', 'sshmap cat "sm://bucket/logs/deep/er/only one" '),
        ("SSHMAP_INVENTORY=none.toml sshmap --local 2 ls sm://bucket/lot", "--local 2 ls sm://bucket/lots "),
        ("sshmap health --hosts local0,lo", "sshmap health --hosts local0,local"),
    ],
)
def test_tab_completes_in_bash(terminal: Terminal, line: str, shown: str) -> None:
    # a host that is busy does not answer in time, so one presses Tab again
    wait_until(lambda: shown + "#" in terminal.complete(line), what="Tab does not complete")


def test_tab_offers_files_where_no_key_is_begun(terminal: Terminal) -> None:
    terminal.enter("mkdir -p here; touch here/some_file")
    assert "sshmap cp here/some_file #" in terminal.complete("sshmap cp here/some")


def test_tab_waits_for_no_host_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, ended = threading.Event(), threading.Event()

    def ls(*_: object, **__: object) -> list[Folder]:
        answers.wait(LIMIT)
        ended.set()
        return [Folder("bucket/")]

    context = typer.Context(typer.main.get_command(app))
    context.params = {"local": 2, "inventory": None}
    monkeypatch.setattr(Cluster, "ls", ls)
    assert offer_keys(context, "sm://") == []
    assert not ended.is_set()
    answers.set()
    wait_until(ended.is_set, what="the listing goes on")


def test_tab_starts_nothing(typed: CommandLine) -> None:
    with contextlib.closing(Terminal(typed)) as terminal:
        terminal.complete("sshmap --local 3 ls sm://")
    wait_until(lambda: not processes_below(typed.folder), what="processes are left")


@pytest.mark.parametrize(
    ("words", "number", "result"),
    [
        (["sshmap", "ls", "sm", ":", "//b/k"], 4, (["sshmap", "ls", "sm://b/k"], 2)),
        (["sshmap", "ls", "sm", ":"], 3, (["sshmap", "ls", "sm:"], 2)),
        (["sshmap", "cp", "sm", ":", "//a", "s4", ":", "//b"], 4, (["sshmap", "cp", "sm://a", "s4://b"], 2)),
        (["sshmap", "cp", "a", ":", "b"], 4, (["sshmap", "cp", "a", ":", "b"], 4)),
        ([], 0, ([], 0)),
    ],
)
def test_words_are_put_together(words: list[str], number: int, result: tuple[list[str], int]) -> None:
    assert joined(words, number) == result
