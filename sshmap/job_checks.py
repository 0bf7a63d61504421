"""What a job may be: INDIR, OUTDIR and command, read and checked before the job is sent to any host, and on each host again."""

from __future__ import annotations

import re

import msgspec

from sshmap.errors import UsageError
from sshmap.model import JobSpec, Maker, check_prefix, glob_pattern, parse_name

#: bytes
MAX_COMMAND = 256 << 10


class Indir(msgspec.Struct, frozen=True, kw_only=True):
    """INDIR of a job, parsed: which keys are its inputs, and what their paths are relative to."""

    #: all its keys start with this
    prefix: str
    #: what a key's path below INDIR is relative to
    below: str
    #: regular expression a name must match; empty if the prefix says all
    pattern: str = ""

    def picks(self, name: str) -> bool:
        """Say whether the key belongs to the job's inputs."""
        return not self.pattern or re.fullmatch(self.pattern, name) is not None


def parse_indir(text: str) -> Indir:
    """Read INDIR: a directory ending in ``/``, or a glob whose ``*`` stays within a part.

    Raises:
        UsageError: it is neither.
    """
    name = check_prefix(parse_name(text))
    if not name:
        raise UsageError(f"{text} names no bucket", hint="name one: sm://bucket/")
    if "*" not in name:
        return Indir(prefix=_directory(text, name), below=name)
    literal = name[: name.index("*")]
    return Indir(
        prefix=literal,
        below=literal[: literal.rfind("/") + 1],
        pattern=glob_pattern(name) + (".+" if name.endswith("/") else ""),
    )


def parse_outdir(text: str) -> str:
    """Read OUTDIR: a directory ending in ``/``.

    Raises:
        UsageError: it does not end in ``/`` or names no bucket.
    """
    name = check_prefix(parse_name(text))
    if not name:
        raise UsageError(f"{text} names no bucket", hint="name one: sm://bucket/")
    if "*" in name:
        raise UsageError(f"OUTDIR {text} is a glob", hint="only INDIR may be one")
    return _directory(text, name)


def _directory(text: str, name: str) -> str:
    if not name.endswith("/") or name == "/":
        raise UsageError(f"not a directory: {text!r}", hint=f"INDIR and OUTDIR end in '/': {text.rstrip('/')}/")
    return name


def check_job(spec: JobSpec) -> Indir:
    """Check a job before it is sent to any host, and parse its INDIR.

    Raises:
        UsageError: a directory is wrong, OUTDIR lies inside INDIR, or the command is empty.
    """
    source = parse_indir(spec.indir)
    outdir = parse_outdir(spec.outdir)
    _check_command(spec.maker.command)
    _check_function(spec.maker)
    if _overlaps(parse_name(spec.indir), outdir):
        raise UsageError(
            f"OUTDIR {spec.outdir} is inside INDIR {spec.indir}: outputs would become inputs",
            hint="give OUTDIR a name of its own, for example sm://out/",
        )
    return source


def _check_function(maker: Maker) -> None:
    file, _, name = maker.function.partition(":")
    if maker.function and not (name.isidentifier() and file in {shipped.name for shipped in maker.shipped}):
        raise UsageError(f"{maker.function!r} is no function in a file that is shipped with the job")


def _check_command(command: str) -> None:
    if not command.strip():
        raise UsageError("the command is empty", hint="give the shell command as the last argument, in quotes")
    if "\0" in command:
        raise UsageError("the command holds a NUL byte")
    try:
        size = len(command.encode())
    except UnicodeEncodeError as exc:
        raise UsageError("the command is not UTF-8", hint="put it into a script and ship that: --with FILE") from exc
    if size > MAX_COMMAND:
        raise UsageError(
            f"the command is longer than {MAX_COMMAND >> 10} KiB",
            hint="put it into a script and ship that: --with FILE",
        )


def _overlaps(indir: str, outdir: str) -> bool:
    """Say whether INDIR could match a key below OUTDIR: compare their parts, up to the end of the shorter one."""
    wanted, given = indir.rstrip("/").split("/"), outdir.rstrip("/").split("/")
    if len(wanted) <= len(given) and not indir.endswith("/"):
        return False
    pairs = zip(wanted, given, strict=False)
    return all(re.fullmatch(glob_pattern(part), there) for part, there in pairs)
