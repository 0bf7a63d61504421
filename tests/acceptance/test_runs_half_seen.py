"""What is said of a run while a host does not answer: what the others know, then which host is missing, exit 3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import CommandLine, ended
from tests.acceptance.test_runs import last
from tests.sshd import free_port


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A host on this machine, and one that does not answer; a run that some tasks of have failed."""
    with ended(CommandLine(tmp_path_factory.mktemp("half"))) as typed:
        inventory = typed.folder / "inventory.toml"
        here = f'[[hosts]]\nname = "here"\nconnect = "local"\nroot = "{typed.folder / "root"}"\n'
        away = f'[[hosts]]\nname = "away"\naddress = "127.0.0.1"\nport = {free_port()}\n'
        inventory.write_text(here + away)
        for number in range(4):
            typed("cp", "-", f"sm://b/in/{2 * number:03}_k", stdin=b"content\n")
        typed("map", "sm://b/in/", "sm://b/out/", "echo said >&2; test $filename != 002_k; cat")
        yield typed
        typed("down", "--purge", "-y", "--hosts", "here")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["jobs"], "map"), (["jobs", "last"], "002_k"), (["jobs", "last", "--joblog"], "002_k"), (["logs", "last"], "said"),
        (["logs", "last", "--follow"], "said"),
    ],
)  # fmt: skip
def test_what_the_others_know_is_shown_first(half: CommandLine, arguments: list[str], shown: str) -> None:
    done = half(*arguments)
    assert (done.code, shown in done.out.decode(), "away" in done.err) == (3, True, True), done.err


@pytest.mark.parametrize("verb", ["wait", "attach"])
def test_run_is_not_called_done_while_a_host_does_not_say_so(half: CommandLine, verb: str) -> None:
    done = half(verb, "last")
    assert (done.code, "away down: an unknown number of keys" in done.err) == (3, True), done.err
    assert "3 ok, 1 failed" in last(done)


def test_cancel_names_the_host_that_was_not_told(half: CommandLine) -> None:
    done = half("cancel", "last")
    assert (done.code, "away not told" in done.err) == (3, True), done.err
