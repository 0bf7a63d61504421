"""Which cluster was meant: jobs and what matches nothing name it, and an inventory can be named shortly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import CommandLine

BUILTIN = "the built-in local cluster of 2 (no inventory was found)"
#: what matches nothing
NOTHING = [
    ["ls", "sm://none"], ["ls", "-r", "sm://none/"], ["cat", "sm://none/k"], ["cat", "sm://none/"], ["cp", "-r", "sm://none", "out"],
    ["cp", "sm://none/k", "out"], ["map", "sm://none/", "sm://out/", "cat"], ["where", "sm://none/k"], ["rm", "sm://none/k"],
    ["sync", "sm://none", "out"], ["eval", "sm://none/k", "cat"],
]  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line with an inventory in the configuration directory, of two hosts, one of which cannot be reached."""
    commandline = CommandLine(tmp_path_factory.mktemp("lab"))
    configured = commandline.folder / "config" / "sshmap"
    configured.mkdir(parents=True)
    hosts = "".join(
        f'[[hosts]]\nname = "w{number}"\nconnect = "local"\nroot = "{commandline.folder}/w{number}"\nworkers = 1\n'
        for number in (1, 2)
    )
    (configured / "lab.toml").write_text(hosts)
    far = '[[hosts]]\nname = "far"\naddress = "127.0.0.1"\nport = 1\n'
    (configured / "lame.toml").write_text(hosts.replace("/w", "/l") + far)
    try:
        commandline.succeed("-i", "lab", "cp", "-", "sm://in/a", stdin=b"x\n")
        yield commandline
    finally:
        for name in ("lab", "lame"):
            commandline("-i", name, "down", "--purge", "-y")
        commandline.finish()


@pytest.mark.parametrize("arguments", NOTHING, ids=" ".join)
def test_what_matches_nothing_names_the_cluster(lab: CommandLine, arguments: list[str]) -> None:
    done = lab("-i", "lab", *arguments)
    assert (done.code, done.err.splitlines()[0].endswith(", on w[1-2]")) == (1, True), done.err


def test_job_names_the_hosts_it_ran_on(lab: CommandLine) -> None:
    done = lab.succeed("-i", "lab", "map", "sm://in/", "sm://out/", "cat")
    assert re.fullmatch(r"done: 1 ok, 0 failed, 0 kept, 2 B, \d+\.\ds, on w\[1-2\]\n", done.err), done.err


def test_builtin_cluster_is_named_with_the_reason(lab: CommandLine) -> None:
    done = lab("ls", "sm://none")
    size = re.search(r"cluster of (\d+)", done.err)
    assert size
    assert f", on {BUILTIN.replace('of 2', f'of {size[1]}')}" in done.err
    assert ", on the built-in local cluster of 3\n" in lab("--local", "3", "ls", "sm://none").err


def test_inventory_that_is_neither_a_file_nor_a_name_is_an_error(lab: CommandLine) -> None:
    done = lab("-i", "lob", "ls")
    assert (done.code, "lob: no such inventory" in done.err) == (2, True)
    (lab.folder / "lab").write_text("not an inventory")
    try:
        assert "not TOML" in lab("-i", "lab", "ls").err
        assert lab("-i", "./lab", "ls").code == 2
    finally:
        (lab.folder / "lab").unlink()
    assert lab("-i", "lab", "ls").code == 0
    assert lab("ls", SSHMAP_INVENTORY="lab").lines[0].split()[-1] == "in"


def test_what_can_be_done_is_done_and_printed_before_a_lost_host_is_named(lab: CommandLine) -> None:
    (lab.folder / "tree").mkdir()
    for number in range(9):
        (lab.folder / "tree" / f"{number:03}_k").write_text("x")
    copied = lab("-i", "lame", "cp", "-r", "tree", "sm://b/")
    assert (copied.code, "far: down: 3 files did not arrive" in copied.err) == (3, True), copied.err
    assert "done: 6 ok, 0 failed, 0 kept, 3 not copied, 6 B" in copied.err
    told = json.loads(lab("-i", "lame", "cp", "-r", "--json", "tree", "sm://b/").out)
    assert (told["ok"], told["kept"], told["failed"], told["not_copied"], [*told["lost"]]) == (0, 6, 0, 3, ["far"])
    out = lab("-i", "lame", "cp", "-r", "sm://b", "copied")
    assert (out.code, "6 ok, 0 failed, 0 kept, an unknown number not copied" in out.err) == (3, True), out.err
    ran = lab("-i", "lame", "map", "sm://b/", "sm://made/", "cat")
    assert (ran.code, "far down: an unknown number of keys of b/ not processed: " in ran.err) == (3, True), ran.err
    assert "done: 6 ok, 0 failed, 0 kept, 6 B, " in ran.err
    assert lab("-i", "lame", "rm", "-r", "sm://made/").code == 3
    jobs = lab("-i", "lame", "jobs", "--json")
    assert (jobs.code, [row["done"] for row in json.loads(jobs.out)], "far" in jobs.err) == (3, [6], True)
    said = lab("-i", "lame", "exec", "echo said; exit 4")
    assert (said.code, sorted(said.lines)) == (3, ["w1: said", "w2: said"])
    assert "error: exit 4 on w[1-2]\n" in said.err
    removed = lab("-i", "lame", "rm", "-r", "sm://b/")
    assert (removed.code, removed.err.splitlines()[0]) == (3, "deleted 6 keys, 6 B")
    assert "far" in removed.err


def test_hosts_whose_command_failed_are_named_by_their_codes(lab: CommandLine) -> None:
    done = lab("-i", "lab", "exec", '[ "$SSHMAP_HOST" = w1 ] && exit 3; exit 5')
    assert (done.code, done.err) == (5, "error: exit 3 on w1\nerror: exit 5 on w2\n")
    done = lab("-i", "lab", "exec", "-b", "echo same; exit 2")
    assert (done.code, done.out, done.err) == (2, b"w[1-2]: same\n", "error: exit 2 on w[1-2]\n")
    assert lab("-q", "-i", "lab", "exec", "exit 2").err == "error: exit 2 on w[1-2]\n"


def test_few_files_that_fall_unevenly_are_noted(lab: CommandLine) -> None:
    folder = lab.folder / "few"
    folder.mkdir()
    # all of them on the first of four hosts
    for number in range(8):
        (folder / f"{4 * number:03}_k").write_text("x" * 1000)
    uneven = lab.succeed("--local", "4", "cp", "-r", "few", "sm://few/")
    assert "note: local0 has over twice its share of these few files; --number deals them out" in uneven.err
    assert "over twice its share" not in lab.succeed("--local", "4", "cp", "-r", "--number", "few", "sm://dealt/").err
    hosts = [line.split()[0] for line in lab.succeed("--local", "4", "where", "sm://dealt/").lines]
    assert hosts == [f"local{number % 4}" for number in range(8)]
    assert "over twice its share" not in lab.succeed("-q", "--local", "4", "cp", "-r", "few", "sm://few/").err


def test_inventories_to_start_from_are_printed(lab: CommandLine) -> None:
    (lab.folder / "home" / ".s4.conf").write_text("10.0.0.1:8080\n10.0.0.2:8080\n")
    (lab.folder / "printed.toml").write_bytes(lab.succeed("inventory", "from-s4").out)
    rows = json.loads(lab.succeed("-i", "printed.toml", "hosts", "--resolved", "--json").out)
    assert [row["value"] for row in rows if row["field"] == "address"] == ["10.0.0.1", "10.0.0.2"]
    (lab.folder / "ssh_config").write_text("Host web1 web2\n  User x\nHost db\n")
    done = lab.succeed("inventory", "from-ssh", "web*", "--config", "ssh_config")
    assert [line for line in done.lines if line.startswith("name")] == ['name = "web1"', 'name = "web2"']
    assert lab("inventory", "from-ssh", "none*", "--config", "ssh_config").code == 1
