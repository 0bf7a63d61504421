"""Damage is found by reading everything, named by key and host, put aside if that is asked for, and made good again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine, Done, ended
from tests.acceptance.test_runs import Background
from tests.conftest import files_below
from tests.integration.damages import flip, rot

KEYS = 12
SIZE = 1000


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Three hosts that all tests here share, and twelve files."""
    with ended(CommandLine(tmp_path_factory.mktemp("verify"))) as typed:
        typed.environment["SSHMAP_LOCAL"] = "3"
        files = typed.folder / "files"
        files.mkdir()
        for number in range(KEYS):
            (files / f"{number:03}_k").write_text(f"{number:03}".ljust(SIZE))
        yield typed


@pytest.fixture
def filled(hosts: CommandLine) -> Iterator[CommandLine]:
    """The hosts with these keys and no others."""
    hosts.succeed("cp", "-r", "files", "sm://b/in")
    yield hosts
    hosts.succeed("rm", "-r", "sm://b/")


def stored(commandline: CommandLine, key: str) -> Path:
    """Return the file of a key."""
    (found,) = commandline.state.rglob(f"data/{key}")
    return found


def told(done: Done) -> dict[str, dict[str, object]]:
    """Return what `verify --json` has printed, by host."""
    return {row["host"]: row for row in json.loads(done.out)}


def total(done: Done, column: str) -> int:
    return sum(int(str(row[column])) for row in told(done).values())


def damage_three(commandline: CommandLine) -> None:
    """Flip bits of two keys, one of which looks untouched, and delete the file of a third."""
    flip(stored(commandline, "b/in/001_k"))
    rot(stored(commandline, "b/in/004_k"))
    stored(commandline, "b/in/005_k").unlink()


def aside(done: Done) -> dict[str, Path]:
    """Return where `verify` says that it has put files, by key."""
    return {
        key: Path(path)
        for key, path in re.findall(r"^error: local\d: sm://(\S+): .*, put aside: (\S+)$", done.err, re.MULTILINE)
    }


def test_whole_keys_are_counted_per_host(filled: CommandLine) -> None:
    done = filled.succeed("verify", "--json")
    rows = told(done)
    assert [(row["keys"], row["bytes"]) for row in rows.values()] == [(4, 4 * SIZE)] * 3
    assert (total(done, "damaged"), total(done, "missing"), done.err) == (0, 0, "")
    heading, *lines = filled.succeed("verify", "sm://b/in/").lines
    assert heading.split() == ["host", "keys", "bytes", "damaged", "missing"]
    assert [line.split() for line in lines] == [[f"local{number}", "4", "4.0", "kB", "0", "0"] for number in range(3)]


def test_damage_is_named_with_key_and_host_and_left_as_it_is(filled: CommandLine) -> None:
    damage_three(filled)
    before = filled.succeed("ls", "-r", "sm://b/").out
    for _ in range(2):
        done = filled("verify", "sm://b/")
        assert done.code == 5, done.err
        assert "error: local1: sm://b/in/001_k: content does not match its digest\n" in done.err
        assert "error: local1: sm://b/in/004_k: content does not match its digest\n" in done.err
        assert "error: local2: sm://b/in/005_k: its file is missing\n" in done.err
        assert "error: local1: 2 of 4 keys are damaged" in done.err
        assert "hint: sshmap verify --quarantine sm://b/ puts them aside" in done.err
        assert [line.split()[-2:] for line in done.lines[1:]] == [["0", "0"], ["2", "0"], ["0", "1"]]
    assert filled.succeed("ls", "-r", "sm://b/").out == before
    assert not list(filled.state.rglob("quarantine"))


def test_damage_as_json(filled: CommandLine) -> None:
    damage_three(filled)
    rows = told(filled("verify", "--json"))
    assert [row["damages"] for row in rows.values()] == [
        [],
        [
            {"key": f"sm://b/in/00{number}_k", "size": SIZE, "missing": False, "put_aside": False, "path": ""}
            for number in (1, 4)
        ],
        [{"key": "sm://b/in/005_k", "size": SIZE, "missing": True, "put_aside": False, "path": ""}],
    ]


def test_only_what_starts_with_the_prefix_is_read(filled: CommandLine) -> None:
    damage_three(filled)
    done = filled.succeed("verify", "sm://b/in/000", "--json")
    assert (total(done, "keys"), done.err) == (1, "")
    nothing = filled("verify", "sm://b/none")
    assert (nothing.code, "no key starts with sm://b/none" in nothing.err) == (1, True)
    assert filled("verify", "b/in").code == 2
    filled.succeed("rm", "-r", "sm://b/")
    assert total(filled.succeed("verify", "--json"), "keys") == 0


def test_health_shows_what_was_found_until_it_is_mended(filled: CommandLine) -> None:
    damage_three(filled)
    assert filled("verify").code == 5
    health = filled("health")
    assert (health.code, "unhealthy: local1: 2 damaged keys, first sm://b/in/001_k" in health.out.decode()) == (3, True)
    repaired = filled.succeed("cp", "-r", "files", "sm://b/in")
    assert "3 repaired" in repaired.err
    filled.succeed("health")
    filled.succeed("verify")


def test_what_is_put_aside_is_kept_and_copied_in_again(filled: CommandLine) -> None:
    damage_three(filled)
    damaged = {name: stored(filled, name) for name in ("b/in/001_k", "b/in/004_k")}
    contents = {name: (path.read_bytes(), path.stat().st_mode) for name, path in damaged.items()}
    done = filled("verify", "--quarantine", "sm://b/")
    assert done.code == 5, done.err
    assert "error: local2: sm://b/in/005_k: its file is missing, and it is no key any more\n" in done.err
    there = aside(done)
    assert {name: (path.read_bytes(), path.stat().st_mode) for name, path in there.items()} == contents
    assert all(f"/quarantine/{name}." in str(path) for name, path in there.items())
    assert len(filled.succeed("ls", "sm://b/in/").lines) == KEYS - 3
    filled.succeed("verify")
    filled.succeed("health")
    again = filled.succeed("cp", "-r", "files", "sm://b/in")
    assert f"3 ok, 0 failed, {KEYS - 3} kept" in again.err
    assert filled.succeed("cat", "sm://b/in/001_k").out == b"001".ljust(SIZE)
    # damaged once more, it is put beside the first
    flip(stored(filled, "b/in/001_k"))
    (other,) = aside(filled("verify", "--quarantine")).values()
    assert other not in there.values()
    assert all(path.exists() for path in there.values())


def test_what_is_put_aside_is_made_again_by_the_same_job(filled: CommandLine) -> None:
    job = ("map", "sm://b/in/", "sm://b/out/", "tr 0-9 a-j")
    filled.succeed(*job)
    flip(stored(filled, "b/out/003_k"))
    stored(filled, "b/out/007_k").unlink()
    refused = filled("cat", "sm://b/out/003_k")
    assert refused.code == 5
    assert filled("verify", "--quarantine", "sm://b/out/").code == 5
    assert f"done: 2 ok, 0 failed, {KEYS - 2} kept" in filled.succeed(*job).err
    assert filled.succeed("cat", "sm://b/out/003_k").out == b"aad".ljust(SIZE)
    filled.succeed("verify")


def test_keys_that_are_swapped_and_deleted_meanwhile_are_not_called_damaged(filled: CommandLine) -> None:
    others = filled.folder / "others"
    others.mkdir(exist_ok=True)
    for number in range(KEYS):
        (others / f"{number:03}_k").write_text(f"other {number}".ljust(40 * SIZE))
    beside = Background(filled, "verify", "--limit-rate", "80k", "sm://b/")
    for folder in ("others", "files", "others"):
        filled.succeed("cp", "-r", "--replace", folder, "sm://b/in")
    filled.succeed("rm", "sm://b/in/010_k")
    done = beside.end()
    assert (done.code, done.err) == (0, "")


def test_interrupted_verify_ends(filled: CommandLine) -> None:
    beside = Background(filled, "verify", "--limit-rate", "1")
    filled.succeed("verify")
    beside.signal(2)
    assert beside.end().code == 130


@pytest.mark.parametrize("rate", ["lots", "0", "-1"])
def test_rate_that_makes_no_sense_is_refused(filled: CommandLine, rate: str) -> None:
    refused = filled("verify", f"--limit-rate={rate}")
    assert (refused.code, f"--limit-rate {rate}" in refused.err) == (2, True), refused.err


def test_options_have_environment_twins(filled: CommandLine) -> None:
    flip(stored(filled, "b/in/001_k"))
    assert filled("verify", SSHMAP_LIMIT_RATE="lots").code == 2
    assert list(aside(filled("verify", SSHMAP_QUARANTINE="1"))) == ["b/in/001_k"]


def test_hostile_names_and_planted_links_lead_nowhere(filled: CommandLine, tmp_path: Path) -> None:
    """A name of 255 bytes still has room for its suffix, and a link in place of the quarantine is not followed."""
    filled.succeed("rm", "-r", "sm://b/")
    names = ["b/in/000_\\$(touch pwned)", f"b/in/000_{'é' * 125}"]
    for name in names:
        filled.succeed("cp", "-", f"sm://{name}", stdin=b"content")
    (root,) = {path.parents[3] for path in files_below(filled.state) if path.name.startswith("000_")}
    quarantine = root / "quarantine"
    if quarantine.exists():
        quarantine.rename(root / "quarantine.before")
    for path in files_below(root / "data"):
        flip(path)
    quarantine.symlink_to(tmp_path)
    refused = filled("verify", "--quarantine", "sm://b/")
    assert (refused.code, files_below(tmp_path)) == (5, []), refused.err
    assert "quarantine: " in refused.err
    assert len(filled.succeed("ls", "sm://b/in/").lines) == 2
    quarantine.unlink()
    assert filled("verify", "--quarantine", "sm://b/").code == 5
    assert len(files_below(quarantine)) == 2
    assert all(len(path.name.encode()) <= 255 for path in files_below(quarantine))


def test_host_that_is_down_is_named_beside_the_damage_of_the_others(filled: CommandLine, tmp_path: Path) -> None:
    flip(stored(filled, "b/in/001_k"))
    roots = {name: stored(filled, f"b/in/00{number}_k").parents[3] for number, name in enumerate(("local0", "local1"))}
    gone = tmp_path / "gone"
    gone.write_text("a file where a root should be")
    places = [*roots.items(), ("local2", gone)]
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(
        "\n".join(f'[[hosts]]\nname = "{name}"\nconnect = "local"\nroot = "{root}"' for name, root in places)
    )
    del filled.environment["SSHMAP_LOCAL"]
    try:
        done = filled("-i", inventory, "verify", "sm://b/in/")
    finally:
        filled.environment["SSHMAP_LOCAL"] = "3"
    assert done.code == 5, done.err
    assert "error: local1: sm://b/in/001_k: content does not match" in done.err
    assert "error: local2: " in done.err
    assert [line.split()[:2] for line in done.lines[1:]] == [["local0", "4"], ["local1", "4"], ["local2", "0"]]
