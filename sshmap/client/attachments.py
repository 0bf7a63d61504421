"""The files that are shipped with a job."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import xxhash

from sshmap.errors import UsageError
from sshmap.model import Shipped


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be shipped with a job."""

    file: Shipped
    path: Path


def attach(paths: Iterable[Path]) -> list[Attachment]:
    """Read the files to ship.

    Raises:
        UsageError: one cannot be read, or two have the same name.
    """
    found: dict[str, Attachment] = {}
    for path in paths:
        try:
            content = path.read_bytes()
            executable = os.access(path, os.X_OK)
        except OSError as exc:
            raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
        if path.name in found:
            raise UsageError(
                f"two files are named {path.name!r}",
                hint="each --with file stands in the task directory under its base name",
            )
        found[path.name] = Attachment(
            file=Shipped(name=path.name, digest=xxhash.xxh3_128_digest(content), executable=executable), path=path
        )
    return sorted(found.values(), key=lambda attachment: attachment.file.name)
