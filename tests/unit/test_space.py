"""The reserve of a disk: from the inventory, else a share of the disk that is not too large; and what is said when it is reached."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from sshmap.errors import NoSpace
from sshmap.placement import Ring
from sshmap.store import memory
from sshmap.store import space as module
from sshmap.store.layout import BALLAST, ClusterFile, Root
from sshmap.store.space import Space

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root that a client has described with the usual reserve."""
    made = Root(tmp_path / "root")
    made.create()
    described(made)
    return made


def described(root: Root, reserve: int = 0) -> None:
    """Note what an inventory says of the reserve."""
    ring = Ring((("h0", 1.0),))
    root.write_cluster(
        ClusterFile(
            root_id="r", host="h0", ring=tuple(ring.members), fingerprint=ring.fingerprint, reserve=reserve
        )
    )  # fmt: skip


def disk(monkeypatch: pytest.MonkeyPatch, free: int, size: int, block: int = 4096) -> None:
    """Let the disk be so large and have so much free, also for the superuser more."""
    figures = SimpleNamespace(
        f_frsize=block, f_blocks=size // block, f_bavail=free // block, f_bfree=free // block + 9999
    )
    monkeypatch.setattr(os, "statvfs", lambda path: figures)


def test_space_of_a_real_disk_is_known(root: Root) -> None:
    free, reserve = Space(root).look()
    assert free > 0
    assert 0 < reserve <= module.RESERVE


@pytest.mark.parametrize(
    ("size", "reserve"),
    [(100 * GIB, 2 * GIB), (1000 * GIB, 2 * GIB), (40 * GIB, 2 * GIB), (10 * GIB, GIB // 2), (0, 0)],
)
def test_usual_reserve_is_two_gib_or_a_twentieth_of_a_small_disk(
    root: Root, monkeypatch: pytest.MonkeyPatch, size: int, reserve: int
) -> None:
    disk(monkeypatch, 0, size)
    assert Space(root).look() == (0, reserve)


def test_inventory_decides_about_the_reserve(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to more than the usual one; what a client says later counts from then on."""
    disk(monkeypatch, 30 * GIB, 100 * GIB)
    space = Space(root)
    for reserve, short in ((50 * GIB, True), (1, False), (30 * GIB, False), (30 * GIB + 1, True)):
        described(root, reserve)
        assert (space.look(), space.is_short()) == ((30 * GIB, reserve), short)
    described(root)
    assert space.look() == (30 * GIB, 2 * GIB)


@pytest.mark.parametrize(("free", "short"), [(2 * GIB, False), (2 * GIB - 4096, True), (0, True), (99 * GIB, False)])
def test_disk_is_short_below_its_reserve_and_not_at_it(
    root: Root, monkeypatch: pytest.MonkeyPatch, free: int, *, short: bool
) -> None:
    disk(monkeypatch, free, 100 * GIB)
    assert Space(root).is_short() is short


def test_error_says_what_is_free_and_what_frees_more(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 300 * MIB, 100 * GIB)
    error = Space(root).error()
    assert isinstance(error, NoSpace)
    assert error.message == "300 MiB are free on its disk, 2048 MiB are the reserve"
    assert ("sshmap rm -r" in error.hint, "sshmap gc" in error.hint, error.exit_code) == (True, True, 6)


def test_memory_that_is_available_is_known() -> None:
    assert MIB < memory.available() < 1 << 50


def test_memory_of_a_system_that_does_not_say_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "meminfo"
    text.write_text("MemTotal:       16 kB\nMemFree:        5 kB\n")
    monkeypatch.setattr("builtins.open", lambda path, mode: text.open(mode))
    assert memory.available() == 1 << 62
    text.write_text("MemTotal:       16 kB\nMemAvailable:      7 kB\n")
    assert memory.available() == 7 << 10
    text.unlink()
    assert memory.available() == 1 << 62


@pytest.mark.parametrize(("free", "made"), [(BALLAST, False), (2 * BALLAST - 1, False), (2 * BALLAST, True)])
def test_ballast_is_made_again_where_there_is_room_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, made: bool
) -> None:
    root = Root(tmp_path / "root")
    root.create()
    root.ballast.unlink()
    disk = os.statvfs(tmp_path)
    values = {"f_bavail": free, "f_frsize": 1}
    told = SimpleNamespace(
        **{name: values.get(name, getattr(disk, name)) for name in ("f_bavail", "f_frsize", "f_blocks")}
    )
    monkeypatch.setattr(os, "statvfs", lambda _: told)
    root.load_ballast()
    assert root.ballast.exists() is made
