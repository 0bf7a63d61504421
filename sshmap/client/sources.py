"""Sources, which are copied in: files of this machine, streams and bytes; and walking a directory for files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from sshmap.errors import InvalidKey, NotCopied, Refused, SshmapError, UsageError
from sshmap.model import KeyName, base_name, check_name, show, typed
from sshmap.protocol.framing import CHUNK

#: bytes up to which a stream is read before anything is sent
SHORT = 1 << 20


class Readable(Protocol):
    """A stream that can be read."""

    def read(self, size: int = -1, /) -> bytes:
        """Return some bytes, at most so many; none at the end."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Something to become a key."""

    name: KeyName
    #: a file, or an open stream that can be read once
    content: Path | Readable | bytes
    #: bytes, as far as they are known beforehand
    size: int = 0
    #: swap a key that holds other content
    replace: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether its content can be read more than once."""
        return isinstance(self.content, Path | bytes)


def of_file(path: Path, name: KeyName) -> Source | None:
    """Return one file as a source; None if it is a FIFO or the like, which gives its content only once.

    Raises:
        UsageError: it is missing, a directory or unreadable.
    """
    try:
        status = path.stat()
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(
            f"{path} is a directory",
            hint=f"copy all of it with: {typed('sshmap', 'cp', '-r', str(path), show(base_name(str(path)) or 'bucket') + '/')}",
        )
    if not os.access(path, os.R_OK):
        raise UsageError(f"cannot read {path}: permission denied")
    return Source(name=name, content=path, size=status.st_size) if stat.S_ISREG(status.st_mode) else None


def of_files(paths: Iterable[Path], prefix: str, failed: Callable[[str, SshmapError], None]) -> Iterator[Source]:
    """Go through some files, to be stored under a prefix plus their base names; what cannot be copied is reported and passed over."""
    for path in paths:
        try:
            source = of_file(path, check_name(prefix + path.name))
            if source is None:
                raise NotCopied(f"not a plain file: {path}", hint="copy it by itself, or leave it out")
            yield source
        except SshmapError as exc:
            failed(str(path), exc)


def measure(paths: Iterable[Path]) -> tuple[int, int]:
    """Return number and bytes of some files and of all files below directories, as far as they can be read."""
    count = size = 0
    for path in paths:
        for source in of_tree(path, "x/", _pass_over) if path.is_dir() else of_files([path], "x/", _pass_over):
            count, size = count + 1, size + source.size
    return count, size


def _pass_over(_: str, __: SshmapError) -> None:
    """Leave out what cannot be read."""


def of_stream(stream: BinaryIO, name: KeyName) -> Source:
    """Return a stream as a source; a short one is read at once, so that it can be sent again.

    Raises:
        NotCopied: it cannot be read.
    """
    begin = bytearray()
    try:
        while len(begin) <= SHORT and (piece := stream.read(SHORT + 1 - len(begin))):
            begin += piece
    except OSError as exc:
        raise NotCopied(f"cannot read the stream: {exc.strerror}") from exc
    if len(begin) <= SHORT:
        return Source(name=name, content=bytes(begin), size=len(begin))
    return Source(name=name, content=_Resumed(bytes(begin), stream), size=len(begin))


class _Resumed:
    """A stream whose beginning has been read already.

    Args:
        begin: what has been read.
        rest: where the rest comes from.
    """

    def __init__(self, begin: bytes, rest: BinaryIO) -> None:
        self._begin, self._rest = begin, rest

    def read(self, size: int = -1, /) -> bytes:
        """Return some bytes, at most so many; none at the end."""
        if self._begin:
            piece, self._begin = self._begin, b""
            return piece
        # read1 returns after one read: `read` would read a terminal again after its end of input
        return bytes(getattr(self._rest, "read1", self._rest.read)(size))


def of_tree(
    top: Path,
    prefix: str,
    failed: Callable[[str, SshmapError], None],
    takes: Callable[[str], bool] = lambda _: True,
) -> Iterator[Source]:
    """Go through the files below a directory; what cannot be copied is reported and passed over.

    Links to files count as files; links to directories are not followed.

    Args:
        top: the directory.
        prefix: what the keys' names start with.
        failed: called with the path of what cannot be copied, and the reason.
        takes: says of a file's path below the directory whether it takes part.
    """
    todo = [(os.fspath(top), prefix)]
    while todo:
        folder, above = todo.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as exc:
            failed(folder, NotCopied(f"cannot read {folder}: {exc.strerror}"))
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                todo.append((entry.path, f"{above}{entry.name}/"))
                continue
            if not takes(f"{above}{entry.name}"[len(prefix) :]):
                continue
            try:
                yield _of_entry(entry, above)
            except NotCopied as exc:
                failed(entry.path, exc)


def _of_entry(entry: os.DirEntry[str], above: str) -> Source:
    try:
        status = entry.stat()
        name = check_name(above + entry.name)
    except OSError as exc:
        raise NotCopied(f"cannot read {entry.path}: {exc.strerror}") from exc
    except InvalidKey as exc:
        raise NotCopied(f"cannot copy {entry.path!r}: {exc.message}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise NotCopied(f"not a plain file: {entry.path}", hint="copy it by itself, or leave it out")
    return Source(name=name, content=Path(entry.path), size=status.st_size)


def pieces(source: Source, buffer: memoryview) -> Generator[memoryview]:
    """Read a source piece by piece; each piece is valid until the next.

    Raises:
        NotCopied: it cannot be read.
        Refused: a file was changed while it was read.
    """
    content = source.content
    if isinstance(content, Path):
        yield from _of_unchanged(content, buffer)
    elif isinstance(content, bytes):
        yield from _split(memoryview(content))
    else:
        try:
            while piece := content.read(CHUNK):
                yield from _split(memoryview(piece))
        except OSError as exc:
            raise NotCopied(f"cannot read the stream: {exc.strerror}") from exc


def _split(content: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]


def _of_unchanged(path: Path, buffer: memoryview) -> Generator[memoryview]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise NotCopied(f"cannot read {path}: {exc.strerror}") from exc
    size = 0
    try:
        before = _state(os.fstat(fd))
        while count := os.readv(fd, [buffer]):
            size += count
            yield buffer[:count]
        if (size, *before) != (before[0], *_state(os.fstat(fd))) or before != _state(path.stat()):
            raise Refused(
                f"{path} was changed while it was read", hint="run the command again when nobody writes to it"
            )
    except OSError as exc:
        raise NotCopied(f"cannot read {path}: {exc.strerror}") from exc
    finally:
        os.close(fd)


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what shows that a file was changed or replaced: its size, times of change and inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
