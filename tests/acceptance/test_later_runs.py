"""What is typed after a first run: a mended command that keeps what is done, and outputs whose inputs are gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import CommandLine, Done, ended

HALF = "grep -v bad"
MENDED = "grep -v bad || true"
PARTS = "cat > 1_$filename; cp 1_$filename 2_$filename; ls"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Three hosts that all tests here share, and files: six good ones, and one at which `HALF` fails."""
    with ended(CommandLine(tmp_path_factory.mktemp("later"))) as typed:
        typed.environment["SSHMAP_LOCAL"] = "3"
        files = typed.folder / "files"
        files.mkdir()
        for number in range(6):
            (files / f"k{number}").write_text(f"good {number}\n")
        (files / "broken").write_text("bad\n")
        yield typed


@pytest.fixture
def filled(hosts: CommandLine) -> Iterator[CommandLine]:
    """The hosts, with these files as keys and no others."""
    hosts.succeed("cp", "-r", "files", "sm://b/in")
    yield hosts
    hosts.succeed("rm", "-r", "sm://b/")


def keys(commandline: CommandLine, prefix: str) -> set[str]:
    return {line.split()[-1].removeprefix("b/") for line in commandline("ls", "-r", prefix).lines}


def last(done: Done) -> str:
    return done.err.splitlines()[-1]


def test_mended_command_keeps_what_is_done(filled: CommandLine) -> None:
    failed = filled("map", "sm://b/in/", "sm://b/out/", HALF)
    assert (failed.code, "6 ok, 1 failed, 0 kept" in failed.err) == (1, True), failed.err
    assert "same command" in failed.err
    assert "--keep-done" in failed.err
    assert "--replace" in failed.err
    refused = filled("map", "sm://b/in/", "sm://b/out/", MENDED)
    assert (refused.code, "--keep-done" in refused.err) == (4, True), refused.err
    kept = filled.succeed("map", "--keep-done", "sm://b/in/", "sm://b/out/", MENDED)
    assert "done: 1 ok, 0 failed, 6 kept" in last(kept)
    assert filled.succeed("cat", "sm://b/out/k3").out == b"good 3\n"


@pytest.mark.parametrize("verb", ["fanout", "merge"])
def test_other_verbs_keep_what_is_done_as_well(filled: CommandLine, verb: str) -> None:
    first = {"fanout": "cat > o; grep -q good o; echo o", "merge": "xargs cat | grep good"}[verb]
    second = {"fanout": "cat > o; echo o", "merge": "xargs cat"}[verb]
    assert filled(verb, "sm://b/in/", "sm://b/out/", first).code == 1
    kept = filled.succeed(verb, "--keep-done", "sm://b/in/", "sm://b/out/", second)
    assert "done: 1 ok, 0 failed, 6 kept" in last(kept)


@pytest.mark.parametrize("verb", ["map", "fanout"])
def test_what_lies_where_the_newest_run_failed_is_not_kept(filled: CommandLine, verb: str) -> None:
    job = (verb, "sm://b/in/", "sm://b/out/")
    oldest, newer, newest = ("cat > o; echo {} >> o; " + ("echo o" if verb == "fanout" else "cat o") for _ in range(3))
    filled.succeed(*job, oldest.format("oldest"))
    failed = filled(*job, newer.format("newer") + "; ! grep -q bad o", "--replace")
    assert (failed.code, "6 ok, 1 failed" in failed.err) == (1, True), failed.err
    # the oldest run's output still lies where the newer one failed
    refused = filled(*job, newest.format("newest"), "--keep-done")
    assert (refused.code, "sm://b/out/broken" in refused.err, "--replace" in refused.err) == (4, True, True)
    both = filled.succeed(*job, newest.format("newest"), "--keep-done", "--replace")
    assert "done: 1 ok, 0 failed, 6 kept" in last(both)
    said = b"".join(filled.succeed("cat", "sm://b/out/").out.split(b"good"))
    assert (said.count(b"newest"), said.count(b"newer"), said.count(b"oldest")) == (1, 6, 0)


def test_changed_input_is_not_kept(filled: CommandLine) -> None:
    filled.succeed("map", "sm://b/in/", "sm://b/out/", "cat")
    filled.succeed("rm", "sm://b/in/k1")
    filled.succeed("cp", "-", "sm://b/in/k1", stdin=b"good, new\n")
    refused = filled("map", "--keep-done", "sm://b/in/", "sm://b/out/", "tac")
    assert (refused.code, "made by other work" in refused.err, "--replace" in refused.err) == (4, True, True)
    both = filled.succeed("map", "--keep-done", "--replace", "sm://b/in/", "sm://b/out/", "tac")
    assert "done: 1 ok, 0 failed, 6 kept" in last(both)
    assert filled.succeed("cat", "sm://b/out/k1").out == b"good, new\n"


def test_output_of_another_verb_is_not_kept(filled: CommandLine) -> None:
    filled.succeed("merge", "sm://b/in/", "sm://b/out/", "xargs cat")
    assert filled("map", "--keep-done", "sm://b/in/", "sm://b/out/", "cat").code == 4


def test_keeping_and_replacing_a_fanout_deletes_only_what_is_stale(filled: CommandLine) -> None:
    filled.succeed("fanout", "sm://b/in/", "sm://b/out/", PARTS)
    filled.succeed("rm", "sm://b/in/k1")
    filled.succeed("cp", "-", "sm://b/in/k1", stdin=b"good, new\n")
    filled.succeed("fanout", "--keep-done", "--replace", "sm://b/in/", "sm://b/out/", "cat > 3_$filename; ls")
    others = {f"{name}/{part}_{name}" for name in ("broken", "k0", "k2", "k3", "k4", "k5") for part in (1, 2)}
    assert keys(filled, "sm://b/out/") == {f"out/{name}" for name in others | {"k1/3_k1"}}


@pytest.mark.parametrize(
    ("verb", "command", "outputs"), [("map", "cat", 1), ("fanout", PARTS, 2), ("merge", "xargs cat", 1)]
)
def test_outputs_whose_input_is_gone_are_named_and_pruned(
    filled: CommandLine, verb: str, command: str, outputs: int
) -> None:
    job = (verb, "sm://b/in/", "sm://b/out/", command)
    assert "gone" not in filled.succeed(*job).err
    # the same work of another directory, and a key that no job made, are left alone
    filled.succeed("cp", "-", "sm://b/other/elsewhere", stdin=b"good\n")
    filled.succeed(verb, "sm://b/other/", "sm://b/out/", command)
    filled.succeed("cp", "-", "sm://b/out/by/hand", stdin=b"1")
    before = keys(filled, "sm://b/out/")
    filled.succeed("rm", "sm://b/in/k1")
    filled.succeed("rm", "sm://b/in/k2")
    filled.succeed("rm", "sm://b/other/elsewhere")
    named = filled.succeed(*job)
    assert f"note: inputs of {2 * outputs} outputs are gone" in named.err
    assert keys(filled, "sm://b/out/") == before
    pruned = filled.succeed(*job, "--prune", "--json")
    assert (json.loads(pruned.out)["pruned"], json.loads(pruned.out)["kept"]) == (2 * outputs, 5)
    gone = before - keys(filled, "sm://b/out/")
    assert len(gone) == 2 * outputs
    assert all("k1" in name or "k2" in name for name in gone)
    assert "gone" not in filled.succeed(*job).err
    # what was pruned is made again when its input is back
    filled.succeed("cp", "-", "sm://b/in/k1", stdin=b"good 1\n")
    assert "done: 1 ok, 0 failed, 5 kept" in last(filled.succeed(*job))


def test_nothing_is_pruned_where_a_task_fails(filled: CommandLine) -> None:
    assert filled("map", "sm://b/in/", "sm://b/out/", HALF).code == 1
    filled.succeed("rm", "sm://b/in/k1")
    failed = filled("map", "sm://b/in/", "sm://b/out/", HALF, "--prune")
    assert (failed.code, "inputs of 1 outputs are gone" in failed.err) == (1, True)
    assert any(name.endswith("out/k1") for name in keys(filled, "sm://b/out/"))


def test_nothing_is_pruned_where_indir_is_empty(filled: CommandLine) -> None:
    filled.succeed("map", "sm://b/in/", "sm://b/out/", "cat")
    filled.succeed("rm", "-r", "sm://b/in/")
    assert filled("map", "sm://b/in/", "sm://b/out/", "cat", "--prune").code == 1
    assert len(keys(filled, "sm://b/out/")) == 7


def test_file_that_a_command_names_and_that_lies_here_is_noted(filled: CommandLine) -> None:
    (filled.folder / "clean.sed").write_text("s/good/fine/\n")
    done = filled("map", "sm://b/in/", "sm://b/out/", "sed -f clean.sed")
    assert done.code == 1
    assert "note: the command names 'clean.sed', which lies here; ship it with --with" in done.err
    assert (
        "note" not in filled.succeed("map", "--with", "clean.sed", "sm://b/in/", "sm://b/out/", "sed -f clean.sed").err
    )
