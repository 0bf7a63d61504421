"""Files appear below the destination, whole, and nothing leads out of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from sshmap.client.destination import Directory, NamedFile


def write(top: Path, relative: str, content: bytes = b"new") -> None:
    with contextlib.closing(Directory(top)) as directory, contextlib.closing(directory.create(relative)) as file:
        file.write(memoryview(content))
        file.finish()


def test_file_takes_its_name_when_it_is_finished(tmp_path: Path) -> None:
    with contextlib.closing(Directory(tmp_path / "out")) as directory:
        file = directory.create("a/b/c")
        file.write(memoryview(b"content"))
        assert not (tmp_path / "out" / "a" / "b" / "c").exists()
        file.finish()
        file.close()
    assert (tmp_path / "out" / "a" / "b" / "c").read_bytes() == b"content"


def test_unfinished_file_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.closing(Directory(tmp_path / "out")) as top, contextlib.closing(top.create("a/b")) as file:
        file.write(memoryview(b"half"))
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["a"]


def test_directories_are_entered_and_left_as_names_come(tmp_path: Path) -> None:
    names = ["a/b/c/1", "a/b/c/2", "a/b/3", "a/b2/4", "a5", "d/e/f/6", "d/e/7"]
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.closing(Directory(tmp_path)) as directory:
        for name in names:
            with contextlib.closing(directory.create(name)) as file:
                file.write(memoryview(name.encode()))
                file.finish()
    assert [(tmp_path / name).read_bytes() for name in names] == [name.encode() for name in names]
    assert len(os.listdir("/proc/self/fd")) == before


def test_link_in_the_place_of_a_file_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "k").symlink_to(tmp_path / "outside")
    write(tmp_path / "out", "k")
    assert (tmp_path / "outside").read_bytes() == b"old"
    assert ((tmp_path / "out" / "k").is_symlink(), (tmp_path / "out" / "k").read_bytes()) == (False, b"new")


@pytest.mark.parametrize("target", ["outside", "out/inside"])
def test_linked_directory_below_the_destination_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / target).mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / target)
    with pytest.raises(NotADirectoryError):
        write(tmp_path / "out", "d/k")
    assert list((tmp_path / target).iterdir()) == []


def test_destination_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    write(tmp_path / "out", "d/k")
    assert (tmp_path / "real" / "d" / "k").read_bytes() == b"new"


def test_directory_in_the_place_of_a_file_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "out" / "k").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "out", "k")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["k"]


def test_file_the_user_named_may_be_a_link_which_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with contextlib.closing(NamedFile(tmp_path / "link")) as file:
        file.write(memoryview(b"new"))
        file.finish()
    assert ((tmp_path / "link").is_symlink(), (tmp_path / "real").read_bytes()) == (True, b"new")


def test_deletion_takes_files_and_links_but_follows_none(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"kept")
    top = tmp_path / "out"
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "e" / "file").write_bytes(b"x")
    (top / "d" / "link").symlink_to(tmp_path / "outside" / "kept")
    (top / "linked").symlink_to(tmp_path / "outside")
    with contextlib.closing(Directory(top)) as directory:
        directory.delete("d/e/file")
        directory.delete("d/link")
        for relative in ("linked/kept", "d", "d/none"):
            with pytest.raises(OSError, match="Errno"):
                directory.delete(relative)
    assert (tmp_path / "outside" / "kept").read_bytes() == b"kept"
    assert sorted(path.name for path in top.rglob("*")) == ["d", "e", "linked"]
