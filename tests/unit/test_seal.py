"""Seals: what was digested a short while ago and not written to since is known without reading it."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from sshmap.store.files import TRUSTED, is_trusted, seal, sealed_at

CONTENT = b"content"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sealed file."""
    made = tmp_path / "file"
    made.write_bytes(CONTENT)
    with made.open("rb") as file:
        assert seal(file.fileno()) == sealed_at(made.stat())
    return made


def trusted(path: Path, size: int = len(CONTENT), sealed: int | None = None) -> bool:
    status = path.stat()
    return is_trusted(status, size, sealed_at(status) if sealed is None else sealed)


def test_sealed_file_is_trusted_and_read_only(path: Path) -> None:
    assert trusted(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.parametrize("content", [CONTENT, b"c0ntent", b""])
def test_write_breaks_the_seal_whatever_is_written(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)
    assert sealed_at(path.stat()) == 0
    assert not trusted(path, len(content))


def test_other_size_or_time_than_noted_is_not_trusted(path: Path) -> None:
    assert not trusted(path, size=len(CONTENT) + 1)
    assert not trusted(path, sealed=sealed_at(path.stat()) - 1)


@pytest.mark.parametrize(("age", "expected"), [(TRUSTED - 60, True), (TRUSTED, False), (-60, False)])
def test_seal_is_trusted_for_a_while_and_never_from_the_future(
    path: Path, age: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 10.0 * TRUSTED)
    made = path.stat().st_mtime_ns - age * 10**9
    os.utime(path, ns=(made, made))
    assert trusted(path) is expected


def test_seal_from_before_the_machine_started_is_not_trusted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = path.stat().st_mtime_ns - 60 * 10**9
    os.utime(path, ns=(made, made))
    monkeypatch.setattr(time, "monotonic", lambda: 90.0)
    assert trusted(path)
    monkeypatch.setattr(time, "monotonic", lambda: 30.0)
    assert not trusted(path)


def test_file_system_that_rounds_time_stamps_has_no_seals(path: Path) -> None:
    second = sealed_at(path.stat()) * 10**9
    os.utime(path, ns=(second, second))
    assert sealed_at(path.stat()) == 0
    assert not trusted(path)
    assert not trusted(path, sealed=0)
