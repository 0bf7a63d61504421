"""The nouns of sshmap: keys, receipts, jobs, tasks. Pure values; no file, no process, no wire.

States of a task::

    queued ──claim──► running ──commit──► done
      ▲                 │  │ └─fanout commit─► sending ──last file arrived──► done
      ├──worker lost────┘  └──command failed──► failed ◄──peer refused──┤
      └──────────────────────files lost, or its input changed───────────┘

A failed task that may be tried again is queued instead. In a run that is cancelled or halted, a task that would be
queued is cancelled, and so are those that run, when they are ended.
"""

from __future__ import annotations

import enum
import re
import shlex
from typing import Annotated, Literal, NewType

import msgspec

from sshmap.errors import InvalidKey

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
    #: its run was ended before it was done
    CANCELLED = "cancelled"


class Ending(enum.Enum):
    """Why no task of a run begins any more, though some are left."""

    #: somebody cancelled it
    CANCELLED = "cancelled"
    #: more of its tasks failed than it was allowed
    HALTED = "halted"


class Force(enum.IntEnum):
    """What becomes of the running commands of a run that is ended."""

    #: they go on to their ends
    WAIT = 0
    #: they are sent SIGTERM, and SIGKILL if that does not end them
    TERM = 1
    #: they are sent SIGKILL
    KILL = 2


#: bytes of a file
Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
#: a number of things, small enough that the sum over all hosts can be sent on
Count = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
#: seconds or another measure; never infinite, never what is no number
Finite = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
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
    #: its run was cancelled or halted
    CANCELLED = "cancelled"


class Owed(msgspec.Struct, frozen=True, array_like=True):
    """A cancelled run, and the hosts that have not been told."""

    run: str
    force: Force
    hosts: tuple[str, ...]


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


class Damage(msgspec.Struct, frozen=True, array_like=True):
    """A key whose file does not have the content that it was stored with."""

    name: str
    #: what it was stored with
    size: Size
    #: whether there is no file, or something else in its place
    missing: bool = False


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
    #: a Python function instead of the command: the shipped file that defines it, a colon, its name
    function: str = ""
    #: packages of others that the function imports, as requirements (PEP 508), in order
    packages: tuple[str, ...] = ()


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
    #: keep outputs that another command of the same verb made of the same inputs
    keep_done: bool = False


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


def typed(*words: str) -> str:
    """Write a command line so that it can be typed as it stands, for a hint."""
    return shlex.join(words)


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


def glob_pattern(glob: str) -> str:
    """Write a glob, whose ``*`` stays within a part, as a regular expression."""
    return "[^/]*".join(map(re.escape, glob.split("*")))
