"""What is read while somebody changes it is refused; what cannot be copied is told and passed over."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap.client.sources import SHORT, Source, of_stream, of_tree, pieces
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
