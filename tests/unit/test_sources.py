"""What is read while somebody changes it is refused; what cannot be copied is told and passed over."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap.client.sources import SHORT, Source, measure, of_files, of_stream, of_tree, pieces
from sshmap.errors import NotCopied, Refused, SshmapError
from sshmap.model import check_name

NAME = check_name("b/k")
SIZE = 1_000_000


def read(source: Source, between: Callable[[], object] = lambda: None) -> bytes:
    """Read a source, with something done after the first piece."""
    content = b""
    for number, piece in enumerate(pieces(source, memoryview(bytearray(1000)))):
        content += piece
        if not number:
            between()
    return content


def cut(path: Path) -> None:
    os.truncate(path, SIZE // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"y" * SIZE)
    other.replace(path)


def test_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(256)) * 100)
    assert read(Source(name=NAME, content=tmp_path / "f")) == bytes(range(256)) * 100


@pytest.mark.parametrize("change", [cut, grow, rewrite, swap])
def test_file_that_is_changed_while_it_is_read_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * SIZE)
    with pytest.raises(Refused, match=str(path)):
        read(Source(name=NAME, content=path), lambda: change(path))


@pytest.mark.parametrize("size", [0, 1, SHORT - 1, SHORT, SHORT + 1, 3 * SHORT])
def test_stream_is_read_whole_and_can_be_sent_again_if_it_is_short(size: int) -> None:
    content = os.urandom(size)
    source = of_stream(io.BytesIO(content), NAME)
    assert (read(source), source.repeatable) == (content, size <= SHORT)
    assert not source.repeatable or read(source) == content


def test_walk_passes_over_what_cannot_be_copied_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "d/b", "d/z"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "d" / "new\nline").write_bytes(b"")
    (tmp_path / "d" / os.fsdecode(b"latin-\xe9")).write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    failures: dict[str, SshmapError] = {}
    names = [source.name for source in of_tree(tmp_path, "b/", failures.__setitem__)]
    assert sorted(names) == ["b/a", "b/d/b", "b/d/z"]
    assert sorted(Path(path).name for path in failures) == ["dangling", "fifo", "latin-\udce9", "new\nline"]
    assert all(isinstance(error, NotCopied) for error in failures.values())


def test_total_of_files_and_directories_is_measured(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name, size in (("d/a", 3), ("d/e/b", 4), ("f", 5)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "d" / "dangling").symlink_to("nowhere")
    assert measure([tmp_path / "d"]) == (2, 7)
    assert measure([tmp_path / "d", tmp_path / "f", tmp_path / "none"]) == (3, 12)
    assert measure([]) == (0, 0)


def test_files_are_named_by_their_base_names_and_the_bad_ones_passed_over(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "d/b", "bad\nname"):
        (tmp_path / name).write_bytes(b"x")
    failed: dict[str, SshmapError] = {}
    paths = [tmp_path / name for name in ("a", "d/b", "none", "d", "bad\nname")]
    sources = list(of_files(paths, "k/", failed.__setitem__))
    assert [(source.name, source.content) for source in sources] == [("k/a", paths[0]), ("k/b", paths[1])]
    assert sorted(failed) == sorted(map(str, paths[2:]))


def test_part_of_a_tree_is_gone_through(tmp_path: Path) -> None:
    for name in ("a", "d/b", "d/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    failed: dict[str, SshmapError] = {}
    sources = of_tree(tmp_path, "k/", failed.__setitem__, lambda path: path.startswith("d/"))
    assert [source.name for source in sources] == ["k/d/b", "k/d/c"]
    assert failed == {}
