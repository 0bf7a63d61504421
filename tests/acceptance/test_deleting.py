"""What is asked before anything is deleted: nothing where jobs made all of it, else a terminal, and never a script."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import CommandLine


@pytest.fixture
def filled(typed: CommandLine) -> CommandLine:
    """A cluster with two keys that were copied in and two that a job made."""
    typed.environment["SSHMAP_LOCAL"] = "2"
    for name in "ab":
        typed.succeed("cp", "-", f"sm://b/in/{name}", stdin=b"12345")
    typed.succeed("map", "sm://b/in/", "sm://b/out/", "cat; echo")
    return typed


def keys(commandline: CommandLine) -> list[str]:
    return [line.split()[-1] for line in commandline("ls", "-r").lines]


def test_what_jobs_made_is_deleted_without_a_question(filled: CommandLine) -> None:
    done = filled.on_terminal("rm", "-r", "sm://b/out/")
    assert (done.code, done.err) == (0, "deleted 2 keys, 12 B\n")
    assert keys(filled) == ["b/in/a", "b/in/b"]


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, 4), ("\n", 1, 4), ("y\n", 0, 0)])
def test_terminal_is_asked_before_copied_keys_are_deleted(
    filled: CommandLine, answer: str, code: int, left: int
) -> None:
    done = filled.on_terminal("rm", "-r", "sm://b/", answer=answer)
    assert done.code == code
    assert "delete 4 keys of 22 B that start with sm://b/? 2 of them, 10 B, were copied in" in done.err
    assert len(keys(filled)) == left


def test_yes_means_yes(filled: CommandLine) -> None:
    assert filled.on_terminal("rm", "-r", "-y", "sm://b/in/a").code == 0
    filled.environment["SSHMAP_YES"] = "1"
    assert filled.on_terminal("rm", "-r", "sm://b/").code == 0
    assert keys(filled) == []


def test_script_is_not_asked_before_rm(filled: CommandLine) -> None:
    assert filled.succeed("rm", "-r", "sm://b/").err == "deleted 4 keys, 22 B\n"


def test_purge_needs_a_yes_where_there_is_no_terminal(filled: CommandLine) -> None:
    done = filled("down", "--purge")
    assert (done.code, "no terminal to ask on" in done.err, "down --purge -y" in done.err) == (2, True, True)
    assert len(keys(filled)) == 4


def test_terminal_is_asked_before_a_purge_that_takes_copied_keys(filled: CommandLine) -> None:
    done = filled.on_terminal("down", "--purge", answer="n\n")
    assert (done.code, "2 of them, 10 B, were copied in" in done.err) == (1, True), done.err
    assert len(keys(filled)) == 4
    filled.succeed("rm", "-r", "sm://b/in/")
    done = filled.on_terminal("down", "--purge")
    assert (done.code, done.err.count("root deleted")) == (0, 2), done.err


def test_purge_can_be_repeated_and_takes_some_hosts_only(filled: CommandLine) -> None:
    (some,) = filled.succeed("down", "--purge", "-y", "--hosts", "local1").err.splitlines()
    assert some == "down: local1, root deleted"
    again = filled.succeed("down", "--purge", "-y").err.splitlines()
    assert again == ["down: local0, root deleted", "down: local1: nothing of sshmap is there"]
    third = filled.succeed("down", "--purge", "-y").err.splitlines()
    assert third == [f"down: local{number}: nothing of sshmap is there" for number in range(2)]


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["b/in/a", "b/in/b"]), ("y\n", ["b/in/a"])])
def test_sync_asks_before_it_deletes_copied_keys(filled: CommandLine, answer: str, left: list[str]) -> None:
    (filled.folder / "in").mkdir()
    (filled.folder / "in" / "a").write_bytes(b"12345")
    filled.succeed("rm", "-r", "sm://b/out/")
    done = filled.on_terminal("sync", "--delete", "in", "sm://b/in", answer=answer)
    assert "delete 1 keys of 5 B that in does not have? 1 of them, 5 B, were copied in" in done.err
    assert keys(filled) == left


def test_sync_out_deletes_files_that_have_no_key(filled: CommandLine) -> None:
    folder = filled.folder / "out"
    filled.succeed("cp", "-r", "sm://b/in", "out")
    (folder / "more").mkdir()
    (folder / "more" / "c").write_text("c")
    (folder / "link").symlink_to(filled.folder / "in")
    (folder / "elsewhere").symlink_to(filled.folder)
    filled.succeed("sync", "sm://b/in", "out")
    assert (folder / "more" / "c").exists()
    assert "2 deleted" in filled.succeed("sync", "--delete", "sm://b/in", "out").err
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "elsewhere", "more"]


def test_question_of_sync_stands_still_on_a_terminal_that_shows_progress(filled: CommandLine) -> None:
    (filled.folder / "none").mkdir()
    filled.environment["TERM"] = "xterm"
    shown = filled.all_on_terminal("sync", "--delete", "none", "sm://b/in", answer="n\n")
    assert "delete 2 keys of 10 B that none does not have? 2 of them, 10 B, were copied in [y/N]:" in shown
    assert keys(filled) == ["b/in/a", "b/in/b", "b/out/a", "b/out/b"]


def test_copies_and_jobs_show_how_far_they_are_on_a_terminal(filled: CommandLine) -> None:
    filled.environment["TERM"] = "xterm"
    (filled.folder / "tree").mkdir()
    for number in range(300):
        (filled.folder / "tree" / f"k{number}").write_bytes(b"x" * 1000)
    for line in (
        ("cp", "-r", "tree", "sm://t"), ("cp", "-r", "sm://t", "back"), ("sync", "tree", "sm://t2"), ("map", "sm://t/", "sm://u/", "sleep 0.01; cat"),
    ):  # fmt: skip
        shown = filled.all_on_terminal(*line)
        assert "300 ok" in shown, shown
        assert f"{line[0]} " in shown.partition("done:")[0], shown
        assert "kB" in shown.partition("done:")[0], shown
        assert "Traceback" not in shown
