"""The code that is shipped to hosts: one archive of our package and the few packages that agents need.

Taken from this installation if the host's interpreter and platform are the same, else from wheels fetched for the
host, whose digests this package holds. The archive's id is a hash of its content, so the same code is shipped once.
"""

from __future__ import annotations

import functools
import gzip
import importlib.metadata
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import msgspec
import xxhash

import sshmap
from sshmap.client.wheels import Platform, fetch, here, told
from sshmap.errors import HostNotReady

#: packages that agents import; setproctitle, which cotyledon would use, is left out
PACKAGES = ("cachetools", "cotyledon", "fasteners", "msgspec", "uhashring", "xxhash")
#: parts of our own package that hosts do not need
_LAPTOP_ONLY = ("cli/", "client/", "recipe/")
_FETCH_SECONDS = 120
#: requirements with the digests of all wheels that are fetched; `make wheels` writes it
_WHEELS = Path(__file__).with_name("wheels.txt")


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """The files, and an id that stands for their content."""

    id: str
    files: dict[str, bytes]

    def archive(self) -> bytes:
        """Pack the files; the same files give the same archive."""
        return _archive(self.files)


@functools.lru_cache(maxsize=8)
def build(wanted: Platform) -> Runtime:
    """Put the archive for a platform together.

    Raises:
        HostNotReady: the wheels for the platform cannot be fetched.
    """
    files = {f"sshmap/{name}": content for name, content in _own_files().items()}
    files |= _installed() if wanted == here() else _fetched(wanted)
    hasher = xxhash.xxh3_128()
    for name in sorted(files):
        hasher.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return Runtime(id=hasher.hexdigest()[:16], files=files)


def _own_files() -> dict[str, bytes]:
    top = Path(sshmap.__file__).parent
    names = (path.relative_to(top).as_posix() for path in top.rglob("*.py"))
    return {name: (top / name).read_bytes() for name in names if not name.startswith(_LAPTOP_ONLY)}


def _installed() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for package in PACKAGES:
        for file in importlib.metadata.files(package) or ():
            if file.suffix in (".py", ".so") and ".." not in file.parts:
                found[file.as_posix()] = file.read_binary()
    return found


def _fetched(wanted: Platform) -> dict[str, bytes]:
    """Fetch wheels for another platform, in the versions and with the digests that this package names.

    Raises:
        HostNotReady: there is no wheel for the platform, or one whose digest is not among them.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch(
                wanted, folder, "--no-deps", "--require-hashes", "--requirement", str(_WHEELS), seconds=_FETCH_SECONDS
            )
        except HostNotReady as exc:
            raise HostNotReady(
                f"no wheels that sshmap trusts for Python {wanted.python} on {wanted.tags[-1]}: {exc.message}",
                hint="install a Python of this machine's version on the host",
            ) from exc
        found: dict[str, bytes] = {}
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as content:
                found |= {name: content.read(name) for name in content.namelist() if name.endswith((".py", ".so"))}
    return found


def _archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(out.getvalue(), compresslevel=6, mtime=0)


def wanted(platform: tuple[str, str, str]) -> str:
    """Return the id of the code that a host should run: Python's version, machine and C library are given as it tells them.

    Raises:
        ProtocolError: what it tells is no version.
        HostNotReady: the wheels for it cannot be had.
    """
    return build(told(platform)).id
