"""Seals: what was digested a short while ago and not touched since is known without reading it."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap.store.seal import TRUSTED, Seal, seal
from tests.conftest import wait_until

CONTENT = b"content"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sealed file, not changed in this tick of the kernel's clock."""
    made = tmp_path / "file"
    made.write_bytes(CONTENT)
    with made.open("rb") as file:
        assert seal(file.fileno()) == Seal.of(made.stat()).stamped
    probe = tmp_path / "probe"

    def ticked() -> bool:
        probe.touch()
        return probe.stat().st_ctime_ns > made.stat().st_ctime_ns

    wait_until(ticked)
    return made


def put_back(path: Path, times: os.stat_result) -> None:
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_and_put_back(path: Path) -> None:
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"c0ntent")
    path.chmod(0o444)
    put_back(path, times)


def move_a_copy_over(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def link(path: Path) -> None:
    path.with_name("link").hardlink_to(path)


def test_sealed_file_is_read_only_and_its_seal_holds(path: Path) -> None:
    before = Seal.of(path.stat())
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert path.read_bytes() == CONTENT
    assert Seal.of(path.stat()) == before
    assert before.fresh


@pytest.mark.parametrize("content", [CONTENT, b"c0ntent", b""])
def test_write_breaks_the_seal_whatever_is_written(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    after = Seal.of(path.stat())
    assert (after.stamped, after.fresh) == (0, False)


@pytest.mark.parametrize("change", [write_and_put_back, move_a_copy_over, link, lambda path: path.chmod(0o400)])
def test_change_of_any_kind_breaks_the_seal_though_size_and_stamp_stay(
    path: Path, change: Callable[[Path], None]
) -> None:
    before = Seal.of(path.stat())
    change(path)
    after = Seal.of(path.stat())
    assert (after.size, after.stamped) == (before.size, before.stamped)
    assert after != before


@pytest.mark.parametrize(("age", "expected"), [(TRUSTED - 60, True), (TRUSTED, False), (-60, False)])
def test_seal_is_fresh_for_a_while_and_never_from_the_future(
    path: Path, age: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 10.0 * TRUSTED)
    made = path.stat().st_mtime_ns - age * 10**9
    os.utime(path, ns=(made, made))
    assert Seal.of(path.stat()).fresh is expected


def test_seal_from_before_the_machine_started_is_not_fresh(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = path.stat().st_mtime_ns - 60 * 10**9
    os.utime(path, ns=(made, made))
    old = Seal.of(path.stat())
    monkeypatch.setattr(time, "monotonic", lambda: 90.0)
    assert old.fresh
    monkeypatch.setattr(time, "monotonic", lambda: 30.0)
    assert not old.fresh


def test_file_system_that_rounds_time_stamps_has_no_seals(path: Path) -> None:
    second = Seal.of(path.stat()).stamped * 10**9
    os.utime(path, ns=(second, second))
    assert (Seal.of(path.stat()).stamped, Seal.of(path.stat()).fresh) == (0, False)


def test_inode_of_64_bits_can_be_stored(path: Path) -> None:
    status = list(path.stat())
    status[stat.ST_INO] = 2**64 - 1
    times = path.stat()
    made = os.stat_result(status, {"st_mtime_ns": times.st_mtime_ns, "st_ctime_ns": times.st_ctime_ns})
    assert 0 < Seal.of(made).inode < 2**63
