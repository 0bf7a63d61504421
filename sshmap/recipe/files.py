"""The files on this machine that a recipe starts from: which they are, and what their directory is called on the cluster."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import xxhash

from sshmap.errors import UsageError
from sshmap.model import Digest
from sshmap.recipe.flow import Files, is_address


class NoFiles(UsageError):
    """There are no files where the user said that they are."""


def dataset_of(origin: str) -> str:
    """Name what a user has named: for people by its own last part, for certain by a digest of its whole path."""
    if is_address(origin):
        return f"addresses-{xxhash.xxh3_64_hexdigest(origin.encode())}"
    path = Path(origin).resolve()
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', path.name)[:100]}-{xxhash.xxh3_64_hexdigest(bytes(path))}"


@contextlib.contextmanager
def found(files: Files) -> Iterator[dict[str, Path]]:
    """Find the files by their names, or have them made for as long as this lasts.

    Raises:
        UsageError: there are none, or two have the same name.
    """
    with contextlib.ExitStack() as stack:
        origin = files.origin
        if origin is None:
            if files.make is None:
                raise UsageError(
                    f"--{files.name} is missing",
                    hint=f"give it a directory with files named {files.pattern}, or a quoted glob",
                )
            origin = stack.enter_context(tempfile.TemporaryDirectory(prefix="sshmap-recipe-"))
            files.make(Path(origin))
        yield _listed(files, origin)


def _listed(files: Files, origin: str) -> dict[str, Path]:
    if Path(origin).is_dir():
        paths = [path for path in Path(origin).iterdir() if fnmatch.fnmatchcase(path.name, files.pattern)]
    else:
        paths = [Path(path) for path in glob.glob(origin)]  # Path.glob takes no absolute pattern
    hint = f"--{files.name} takes a directory with files named {files.pattern}, or a quoted glob"
    paths = sorted(path for path in paths if path.is_file())
    if not paths:
        raise NoFiles(f"no files {files.pattern} in {origin}", hint=hint)
    by_name = {path.name: path for path in paths}
    if len(by_name) < len(paths):
        double = next(path for path in paths if by_name[path.name] != path)
        raise UsageError(f"two files are called {double.name}: {double} and {by_name[double.name]}", hint=hint)
    return by_name


def digest(path: Path) -> Digest:
    """Return the digest under which the cluster knows a file's content.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return Digest(hashlib.file_digest(file, xxhash.xxh3_128).digest())
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
