"""A disk that has less free than its reserve: nothing begins there, what is done stays, and the error says what to free."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine, ended
from tests.acceptance.test_runs import Background, begun, held, last, newest
from tests.conftest import wait_until

KEYS = 4


class Disk:
    """One host whose reserve can be changed.

    Args:
        typed: a command line.
    """

    def __init__(self, typed: CommandLine) -> None:
        self.typed, self._inventory = typed, typed.folder / "inventory.toml"
        self.reserve("1k")

    def reserve(self, size: str) -> None:
        """Change the reserve, and tell the host."""
        root = self.typed.folder / "root"
        self._inventory.write_text(
            f'[[hosts]]\nname = "h0"\nconnect = "local"\nroot = "{root}"\nworkers = 1\nreserve = "{size}"\n'
        )
        self.typed.succeed("hosts")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """One host with some keys."""
    with ended(CommandLine(tmp_path_factory.mktemp("disk"))) as typed:
        files = typed.folder / "files"
        files.mkdir()
        for number in range(KEYS):
            (files / f"k{number}").write_text(f"content {number}\n")
        typed.environment["SSHMAP_INVENTORY"] = str(typed.folder / "inventory.toml")
        try:
            made = Disk(typed)
            typed.succeed("cp", "-r", "files", "sm://b/in")
            yield made
        finally:
            typed.succeed("down", "--purge", "-y")


def test_job_is_refused_before_it_begins(disk: Disk) -> None:
    disk.reserve("900T")
    number = newest(disk.typed)
    refused = disk.typed("map", "sm://b/in/", "sm://b/refused/", "cat")
    assert (refused.code, "reserve" in refused.err, "rm -r" in refused.err) == (6, True, True), refused.err
    assert newest(disk.typed) == number
    disk.reserve("1k")
    disk.typed.succeed("map", "sm://b/in/", "sm://b/refused/", "cat")


def test_disk_that_fills_keeps_what_is_done_and_goes_on_when_there_is_room(disk: Disk, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    # longer than the worker takes to see the new reserve
    job = ("map", "sm://b/in/", "sm://b/out/", f"{held(gate)}; sleep 0.5")
    running = Background(disk.typed, *job)
    begun(gate)
    disk.reserve("900T")
    (tmp_path / "gate").touch()
    full = running.end()
    assert (full.code, "has no space" in full.err, "not processed" in full.err) == (6, True, True), full.err
    assert "0 failed" in last(full)
    done = len(disk.typed("ls", "sm://b/out/").lines)
    assert 0 < done < KEYS
    disk.reserve("1k")
    wait_until(lambda: len(disk.typed("ls", "sm://b/out/").lines) == KEYS, what="the host does not go on by itself")
    assert f"{KEYS} kept" in last(disk.typed.succeed(*job))


def test_reserve_that_is_no_size_is_refused_with_its_place(disk: Disk) -> None:
    path = disk.typed.folder / "wrong.toml"
    path.write_text('[[hosts]]\nname = "h1"\nreserve = "much"\n')
    refused = disk.typed("-i", path, "ls")
    assert (refused.code, "reserve" in refused.err, "2G" in refused.err) == (2, True, True), refused.err
