"""The nouns of sshmap: keys, receipts, jobs, tasks. Pure values; no file, no process, no wire.

States of a task::

    queued ──claim──► running ──commit──► done
      ▲                 │  │ └─fanout commit─► sending ──last file arrived──► done
      ├──worker lost────┘  └──command failed──► failed ◄──peer refused──┤
      └──────────────────────files lost, or its input changed───────────┘
"""

from __future__ import annotations

import enum
import re
from typing import Annotated, Literal, NewType

import msgspec

from sshmap.errors import InvalidKey, UsageError

#: Name of a key without its scheme: ``bucket/path/name``.
KeyName = NewType("KeyName", str)
#: Name of a host in the inventory.
HostName = NewType("HostName", str)
#: Short hash of what a job is to do; the same command has the same id.
JobId = NewType("JobId", str)
#: Random name of a run, made by the client that asks for it.
RunId = NewType("RunId", str)
#: xxh3-128 of some content, 16 bytes.
Digest = NewType("Digest", bytes)

SCHEMES = ("sm://", "s4://")
#: bytes
MAX_PART = 255
#: bytes
MAX_NAME = 3500
#: bytes
MAX_COMMAND = 256 << 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Verb(enum.Enum):
    """The three shapes of a job."""

    #: one key in, one key out
    MAP = "map"
    #: one key in, any number of files out, placed by their names
    FANOUT = "fanout"
    #: all local keys of one group in, one key out
    MERGE = "merge"


class TaskState(enum.Enum):
    """Where a task is; see the drawing at the top."""

    #: waits for a worker
    QUEUED = "queued"
    #: a worker runs its command
    RUNNING = "running"
    #: its command is done, its files are on their way to other hosts
    SENDING = "sending"
    #: its outputs are where they belong
    DONE = "done"
    #: its command failed, or its output was refused
    FAILED = "failed"


#: bytes of a file
Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
#: a number of things, small enough that the sum over all hosts can be sent on
Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
#: an xxh3-128
DigestBytes = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
#: seconds since 1970, within the years that a calendar can show
Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]


class AttemptEnd(enum.Enum):
    """What became of an attempt."""

    #: its outputs are where they belong
    DONE = "done"
    #: its command failed, or its output was refused
    FAILED = "failed"
    #: its worker died, or the files that it made were lost on their way
    LOST = "lost"
    #: its worker was stopped, or gave the task back before beginning it
    RETURNED = "returned"
    #: its input changed, and the task was queued again
    OVERTAKEN = "overtaken"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One key as a listing shows it."""

    name: str
    size: Size
    #: when it was committed, by its host's clock
    mtime: Time
    digest: bytes = b""


class Bucket(msgspec.Struct, frozen=True, array_like=True):
    """All keys that have the same first part, on one host or on all together."""

    name: str
    keys: Count
    size: Size
    #: when the newest was committed, by its host's clock
    mtime: Time


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """What one fan-out has not brought below a directory, as far as one host knows."""

    job: str
    #: tasks that have failed, and that are unfinished
    failed: Count
    unfinished: Count
    #: files that wait in the outbox
    files: Count


class Receipt(msgspec.Struct, frozen=True, array_like=True):
    """What made a key; equal receipts mean the same work."""

    #: digest of verb, command and shipped files
    maker: bytes
    #: digest of the inputs' names and digests
    inputs: bytes


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    """A file sent along with a job."""

    #: base name under which it stands in the task directory
    name: str
    digest: DigestBytes
    executable: bool = False


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a receipt that all tasks of a job share."""

    verb: Verb
    command: str
    shipped: tuple[Shipped, ...] = ()


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """How a host reaches another one."""

    name: str
    connect: Literal["ssh", "local"]
    root: str
    address: str = ""
    port: int = 0
    user: str = ""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A job as submitted."""

    indir: str
    outdir: str
    maker: Maker
    #: swap outputs that other work made
    replace: bool = False
    #: merge also where outputs of fan-outs are missing
    partial: bool = False


def parse_name(text: str) -> str:
    """Strip the scheme off ``sm://bucket/path``.

    Raises:
        InvalidKey: the scheme is missing.
    """
    for scheme in SCHEMES:
        if text.startswith(scheme):
            return text[len(scheme) :]
    raise InvalidKey(
        f"not a key: {text!r}",
        hint=f"keys are written sm://bucket/path, for example sm://{text.strip('/') or 'bucket'}",
    )


def is_remote(text: str) -> bool:
    """Say whether the argument names a key rather than a local file."""
    return text.startswith(SCHEMES)


def show(name: str) -> str:
    """Write a key name as the user types it."""
    return f"sm://{name}"


def check_name(name: str) -> KeyName:
    """Check a key name by the one rule stated in the README.

    Raises:
        InvalidKey: it is empty, absolute, not UTF-8, too long, or holds control
            characters or a part that is empty, ``.`` or ``..``.
    """
    problem = _problem(name)
    if problem:
        raise InvalidKey(f"bad key name {show(name)!r}: {problem}", hint=_advice(name))
    return KeyName(name)


def _advice(name: str) -> str:
    bucket, _, rest = name.partition("/")
    if bucket and not _problem(f"{bucket}/x") and not rest:
        return f"to mean all keys in it: -r {show(bucket)}/ where the command has -r"
    return "parts are 1 to 255 bytes of UTF-8 without control characters, not '.' or '..'"


def _problem(name: str) -> str:
    if _CONTROL.search(name):
        return "it holds a control character"
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if b"/" not in raw:
        return "it names a bucket, not a key"
    if len(raw) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    for part in raw.split(b"/"):
        if part in (b"", b".", b".."):
            return f"the part {part.decode()!r} is not allowed" if part else "it has an empty part"
        if len(part) > MAX_PART:
            return f"a part is longer than {MAX_PART} bytes"
    return ""


def check_prefix(prefix: str) -> str:
    """Check the prefix of a listing or a removal; its last part may be the beginning of a name.

    Raises:
        InvalidKey: no key can start like this.
    """
    parts = prefix.split("/")
    if _CONTROL.search(prefix) or any(part in ("", ".", "..") for part in parts[:-1]):
        raise InvalidKey(f"bad prefix {show(prefix)!r}: no key can start like this")
    return prefix


def parse_prefix(text: str) -> str:
    """Read what the names of keys start with; a bare bucket means that bucket, and no other whose name starts with its.

    Raises:
        InvalidKey: no key can start like this.
    """
    name = parse_name(text)
    return check_prefix(f"{name}/" if name and "/" not in name else name)


def parse_directory(text: str) -> str:
    """Read a directory of keys, with or without a slash at its end; empty if all buckets are meant.

    Raises:
        InvalidKey: no key can lie there.
    """
    name = parse_name(text)
    return check_prefix(name if name.endswith("/") or not name else f"{name}/")


def base_name(name: str) -> str:
    """Return the last part of a key name."""
    return name.rsplit("/", 1)[-1]


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


def glob_pattern(glob: str) -> str:
    """Write a glob, whose ``*`` stays within a part, as a regular expression."""
    return "[^/]*".join(map(re.escape, glob.split("*")))


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
    if _overlaps(parse_name(spec.indir), outdir):
        raise UsageError(
            f"OUTDIR {spec.outdir} is inside INDIR {spec.indir}: outputs would become inputs",
            hint="give OUTDIR a name of its own, for example sm://out/",
        )
    return source


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
