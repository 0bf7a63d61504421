"""Hints can be typed as they stand: names are quoted, and the cluster is the one that was named."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import CommandLine, Done


def hint(done: Done) -> str:
    (found,) = [line.removeprefix("hint: ") for line in done.err.splitlines() if line.startswith("hint: ")]
    return found


def test_hint_about_a_name_with_spaces_works_as_typed(typed: CommandLine) -> None:
    name = "sm://b/it's here; $HOME"
    typed.succeed("--local", "2", "cp", "-", name, stdin=b"1")
    refused = typed("--local", "2", "cp", "-", name, stdin=b"2")
    assert refused.code == 4
    command = hint(refused).partition("delete it first: ")[2]
    assert command.startswith("sshmap --local 2 rm ")
    assert typed.shell(command).code == 0
    typed.succeed("--local", "2", "cp", "-", name, stdin=b"2")


def test_hint_about_a_directory_with_spaces_works_as_typed(typed: CommandLine) -> None:
    (typed.folder / "my files").mkdir()
    (typed.folder / "my files" / "a").write_text("1")
    refused = typed("--local", "2", "cp", "my files", "sm://b/files/")
    assert refused.code == 2
    done = typed.shell(hint(refused).rpartition(": ")[2])
    assert (done.code, "done: 1 ok" in done.err) == (0, True), hint(refused)


def test_hint_about_a_purge_names_the_hosts_that_were_chosen(typed: CommandLine) -> None:
    typed.succeed("--local", "2", "up")
    refused = typed("--local", "2", "down", "--purge", "--hosts", "local1")
    assert hint(refused).endswith(": sshmap --local 2 down --purge -y --hosts local1")
    assert typed.shell(hint(refused).rpartition(": ")[2]).err == "down: local1, root deleted\n"


@pytest.mark.parametrize("variables", [{}, {"SSHMAP_LOCAL": "2"}])
def test_cluster_that_was_not_typed_is_not_named_in_hints(typed: CommandLine, variables: dict[str, str]) -> None:
    typed.environment.update(variables)
    done = typed("ls", "sm://none/")
    assert "--local" not in done.err
