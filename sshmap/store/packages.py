"""Packages of others that functions import on this host: unpacked wheels, in a directory for each list of requirements.

They lie among the root's shipped files, and go with these when no run needs them.
"""

from __future__ import annotations

import compileall
import errno
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sshmap.errors import DigestMismatch
from sshmap.model import Digest, Maker
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root
from sshmap.store.receipts import canonical

#: what of a wheel's data directory lies beside its packages (PEP 427)
_LIBRARIES = ("purelib", "platlib")
#: free space that unpacking must leave, as receiving content: so many bytes, or on a small disk this share of it
FLOOR, FLOOR_SHARE = 64 << 20, 0.05


def digest_packages(requirements: tuple[str, ...]) -> Digest:
    """Digest requirements."""
    return digest_of(canonical("packages", requirements))


def packages_path(root: Root, requirements: bytes) -> Path:
    """Return the directory of the packages for requirements, if they are there, by the digest of these."""
    return root.shipped / f"{requirements.hex()}.packages"


def shipped_path(root: Root, digest: bytes, requirements: bytes | None) -> Path:
    """Return where a file of a job lies, or the packages that it is an archive of."""
    return root.shipped / digest.hex() if requirements is None else packages_path(root, requirements)


def shipped_paths(root: Root, maker: Maker) -> list[Path]:
    """Return where what was shipped for a maker lies: its files, and its packages."""
    files = [root.shipped / file.digest.hex() for file in maker.shipped]
    return [*files, packages_path(root, digest_packages(maker.packages))] if maker.packages else files


def unpack(archive: Path, folder: Path, place: Path) -> None:
    """Unpack an archive of wheels into a new directory, and compile their modules.

    Args:
        archive: a tar file.
        folder: the directory.
        place: where that will lie.

    Raises:
        DigestMismatch: it is no archive of wheels.
        OSError: the disk refuses.
    """
    folder.mkdir()
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                if (wheel := tar.extractfile(entry)) is not None:
                    with zipfile.ZipFile(wheel) as content:
                        _check_room(folder, sum(member.file_size for member in content.infolist()))
                        content.extractall(folder)  # noqa: S202  # zipfile keeps names below it
    except (tarfile.TarError, zipfile.BadZipFile) as exc:
        raise DigestMismatch(f"the packages arrived damaged: {exc}", hint="run the command again") from exc
    for part in list(_data(folder)):
        _merge(part, folder)
    compileall.compile_dir(folder, quiet=2, stripdir=str(folder), prependdir=str(place))
    # so that no task writes there by mistake; the directory itself has to be moved first
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o222)


def _check_room(folder: Path, size: int) -> None:
    """Check that the disk keeps the free space that the host's ledger and commands need.

    Raises:
        OSError: it has less, once so many bytes are written.
    """
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize - size < min(FLOOR, FLOOR_SHARE * disk.f_blocks * disk.f_frsize):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _data(folder: Path) -> Iterator[Path]:
    for name in _LIBRARIES:
        yield from folder.glob(f"*.data/{name}")


def _merge(part: Path, folder: Path) -> None:
    """Move what lies in one directory to the same place in another one."""
    for path in sorted(part.rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
