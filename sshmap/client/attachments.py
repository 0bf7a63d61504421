"""The files that are shipped with a job."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import msgspec
import xxhash

from sshmap.client.functions import Bundle
from sshmap.errors import UsageError
from sshmap.model import Shipped


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be shipped with a job."""

    file: Shipped
    path: Path
    #: what is sent, if there is no such file
    content: bytes | None = None

    def read(self) -> bytes:
        """Return what is sent."""
        return self.path.read_bytes() if self.content is None else self.content


def unshipped(command: str, shipped: Iterable[Path]) -> list[str]:
    """Return the files on this machine that a command names and that are not shipped with it.

    Absolute names count only below the home directory, as others name what hosts have themselves; the name of a program
    without a slash is looked for on the host.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    bases, home = {path.name for path in shipped}, os.path.expanduser("~/")
    found: list[str] = []
    with contextlib.suppress(ValueError):  # a quote is not closed: bash will say so
        is_program = True
        for word in lexer:
            path = os.path.expanduser(word)
            near = path.startswith(home) or not path.startswith("/")
            if near and not (is_program and "/" not in word) and os.path.basename(path) not in bases:
                found += [word] if os.path.isfile(path) else []
            is_program = set(word) <= set("();|&")
    return list(dict.fromkeys(found))


def attach(paths: Iterable[Path], bundle: Bundle | None = None) -> list[Attachment]:
    """Read the files to ship.

    Args:
        paths: the files.
        bundle: a function that goes along.

    Raises:
        UsageError: one cannot be read, or two have the same name.
    """
    found: dict[str, Attachment] = {}
    for name, content in bundle.contents.items() if bundle else ():
        shipped = Shipped(name=name, digest=xxhash.xxh3_128_digest(content))
        found[name] = Attachment(file=shipped, path=Path(name), content=content)
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
