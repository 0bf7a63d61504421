"""What can happen to a stored file behind sshmap's back."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.seal import Seal
from tests.conftest import wait_until

HOUR = 3600


def flip(path: Path) -> None:
    """Flip one bit in the middle, as a disk would."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def rot(path: Path) -> None:
    """Flip one bit of a key that has lain here for an hour, with nothing else to see."""
    data = next(parent for parent in path.parents if parent.name == "data")
    made = path.stat().st_mtime_ns - HOUR * 10**9
    flip(path)
    os.utime(path, ns=(made, made))
    seal = Seal.of(path.stat())
    with contextlib.closing(Ledger(Root(data.parent))) as ledger, ledger.change() as db:
        values = (seal.stamped, seal.inode, seal.ctime, str(path.relative_to(data)))
        db.execute("UPDATE keys SET mtime = ?, inode = ?, ctime = ? WHERE name = ?", values)
    assert seal.stamped == made // 10**9


def await_tick(path: Path) -> None:
    """Wait until the kernel's clock for files has gone on since a file was changed."""
    probe = path.with_name(f".probe.{path.name}")

    def ticked() -> bool:
        probe.touch()
        return probe.stat().st_ctime_ns > path.stat().st_ctime_ns

    wait_until(ticked)
    probe.unlink()


def write_over(path: Path) -> None:
    """Flip one bit within ten minutes of the commit, and put the time stamp back."""
    times = path.stat()
    await_tick(path)
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def move_over(path: Path) -> None:
    """Have another file of the same size and time stamp take the place."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    write_over(copy)
    copy.rename(path)


def truncate(path: Path) -> None:
    """Lose the last byte."""
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    """Get one byte more."""
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"x")


def empty(path: Path) -> None:
    """Lose all content."""
    path.chmod(0o644)
    os.truncate(path, 0)


def delete(path: Path) -> None:
    """Lose the file."""
    path.unlink()


def make_directory(path: Path) -> None:
    """Become a directory."""
    path.unlink()
    path.mkdir()


DAMAGES = (flip, rot, write_over, move_over, truncate, grow, empty, delete, make_directory)
