"""Requirements as a receipt has them, whether an interpreter meets them, and wheels as hosts unpack them."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest

from sshmap.client import packages
from sshmap.client.wheels import Platform, fetch, here, told
from sshmap.errors import DigestMismatch, HostNotReady, ProtocolError, UsageError
from sshmap.store.packages import digest_packages, packages_path, unpack
from tests import wheelhouse
from tests.unit import benches
from tests.unit.benches import Bench

bench = benches.bench


def test_requirements_are_written_in_one_way_and_in_order() -> None:
    assert packages.checked(["polars >=1.2, <2", "ddsketch[serialization]", "polars<2,>=1.2"]) == (
        "ddsketch[serialization]", "polars<2,>=1.2",
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [["-r requirements.txt"], ["../x"], ["a @ https://example.org/a.whl"], [""], "polars", [3]]
)
def test_what_is_no_requirement_is_refused(wrong: list[str]) -> None:
    with pytest.raises(UsageError):
        packages.checked(wrong)


@pytest.mark.parametrize(
    ("requirement", "lacks"),
    [
        ("msgspec", False), ("msgspec>=0.1,<99", False), ("msgspec<0.1", True), ("no-such-package-anywhere", True),
        ('no-such-package-anywhere; python_version < "3"', False), ("sshmap-cluster[test]", False),
    ],
)  # fmt: skip
def test_whether_this_interpreter_lacks_a_package(requirement: str, lacks: bool) -> None:
    assert packages._lacks([requirement]) is lacks


def test_what_a_package_needs_has_to_be_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, lines in {"outer": 'Requires-Dist: gone; extra == "more"\n', "middle": "Requires-Dist: gone\n"}.items():
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{lines}")
    monkeypatch.syspath_prepend(tmp_path)
    assert [packages._lacks([name]) for name in ("outer", "outer[more]", "middle")] == [False, True, True]


def test_wheels_of_another_platform_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Platform(version=(3, 12), machine="aarch64", libc="glibc")
    for tag in (
        "cp312-cp312-manylinux_2_28_aarch64",
        "cp311-cp311-manylinux_2_28_aarch64",
        "cp312-cp312-musllinux_1_2_aarch64",
    ):
        wheelhouse.add_wheel(tmp_path, "compiled", {"compiled.py": ""}, tag=tag)
    wheelhouse.use(tmp_path, monkeypatch)
    fetch(other, str(tmp_path / "got"), "compiled", seconds=60)
    assert [path.name for path in (tmp_path / "got").iterdir()] == [
        "compiled-1.0-cp312-cp312-manylinux_2_28_aarch64.whl"
    ]
    with pytest.raises(HostNotReady, match="No matching distribution found for compiled"):
        fetch(here(), str(tmp_path / "none"), "compiled", seconds=60)


@pytest.mark.parametrize(
    "words",
    [("3.11", "../../x", "glibc"), ("3.11", "x86_64", "a/b"), ("x", "x86_64", "glibc"), ("3.11", "x" * 50, "glibc")],
)
def test_platform_of_a_hostile_host_is_refused(words: tuple[str, str, str]) -> None:
    with pytest.raises(ProtocolError):
        told(words)


def test_pip_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostNotReady, match="pip has not answered for 0 s"):
        fetch(here(), str(tmp_path), "x", seconds=0.001)


@pytest.mark.parametrize("content", [b"", b"no archive" * 100])
def test_archive_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tar").write_bytes(content)
    with pytest.raises(DigestMismatch):
        unpack(tmp_path / "tar", tmp_path / "into", tmp_path / "place")


def test_names_of_a_wheel_stay_below_the_directory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil-1-py3-none-any.whl", "w") as wheel:
        for name in ("../../outside.py", "/outside.py", "evil-1.data/purelib/../../../outside.py", "evil.py"):
            wheel.writestr(name, "x")
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "evil-1-py3-none-any.whl", "evil-1-py3-none-any.whl")
    (tmp_path / "a/b").mkdir(parents=True)
    unpack(tmp_path / "tar", tmp_path / "a/b/into", tmp_path / "place")
    outside = [path for path in tmp_path.rglob("outside.py") if not path.is_relative_to(tmp_path / "a/b/into")]
    assert outside == []
    assert not Path("/outside.py").exists()
    assert (tmp_path / "a/b/into/evil.py").exists()


def test_unpacking_leaves_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheelhouse.add_wheel(tmp_path, "large", {"large.py": "x"})
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "large-1.0-py3-none-any.whl", "large-1.0-py3-none-any.whl")
    monkeypatch.setattr("sshmap.store.packages.FLOOR", 1 << 60)
    monkeypatch.setattr("sshmap.store.packages.FLOOR_SHARE", 1.0)
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "tar", tmp_path / "into", tmp_path / "place")
    assert list((tmp_path / "into").iterdir()) == []


def test_kill_while_packages_are_forgotten_leaves_no_half_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = bench.store.root
    folder = packages_path(root, digest_packages(("aside",)))
    folder.mkdir()
    (folder / "aside.py").write_text("")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sshmap.store.forgetting.remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.forgetting.drop_shipped()
    assert not folder.exists()
    monkeypatch.undo()
    bench.forgetting.drop_shipped()
    assert list(root.shipped.iterdir()) == []
