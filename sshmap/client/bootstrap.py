"""Setting up one host over ssh: find its Python, ship the code, start the daemon.

Two short sessions, each with the transport of the inventory: the first runs a probe in the
host's `sh`, the second its Python with our installer. A host that is set up already is
recognised by its agent's first answer and needs neither.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from importlib import resources
from typing import TypeVar

import msgspec

from sshmap.client.runtime import Runtime, build
from sshmap.client.wheels import Platform
from sshmap.errors import HostNotReady, ProtocolError
from sshmap.inventory import Host
from sshmap.protocol.handshake import MAX_NOISE, quote
from sshmap.store.layout import unsafe
from sshmap.transport.channel import Channel
from sshmap.transport.dial import open_command
from sshmap.transport.target import STARTUP_HINT

Answer = TypeVar("Answer", bound=msgspec.Struct)
CANDIDATES = (
    "python3",
    "python",
    "python3.14",
    "python3.13",
    "python3.12",
    "python3.11",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
)
#: the first version with `mapfile -d`, by which the bash of a worker reads requests
LEAST_BASH = (4, 4)
LEAST_FREE = 200 << 20
#: One line without single quotes, so that every login shell passes it on as it is.
_PROBE = (
    "for p in {candidates}; do q=$(command -v $p) || continue; "
    'v=$($q -I -c "import sys,sqlite3,platform;print(sys.version_info[0],sys.version_info[1],'
    'sqlite3.sqlite_version,platform.machine(),platform.libc_ver()[0] or chr(63))" 2>/dev/null) || v=; '
    'echo "{marker} $q $v"; done; echo "{marker} end"'
)
#: patterns of the numbers and versions that an interpreter says of itself
_NUMBER, _NUMBERS = "[0-9]{1,4}", r"[0-9]{1,6}(\.[0-9]{1,6}){0,5}"
_LOADER = 'exec(__import__("sys").stdin.buffer.readline())'
_RULE, _INSTALLER = ("store", "ownership.py"), ("agent", "host", "installer.py")
#: registers the one module of ours that the installer imports, and runs the installer; both are read from stdin
_MODULES = (
    "import sys,types;m=types.ModuleType('sshmap.store.ownership');sys.modules[m.__name__]=m;"
    "exec(sys.stdin.buffer.read({rule}),m.__dict__);exec(compile(sys.stdin.buffer.read({program}),'installer','exec'))\n"
)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the installer found on a host."""

    root: str
    python: str
    version: tuple[int, int]
    machine: str
    libc: str
    bash: str
    bash_version: tuple[int, int]
    keygen: str
    #: the `ssh` program, which brings fan-out files to other hosts
    ssh: str
    #: whether the root, or what it is to be made in, can be written to
    writable: bool
    #: whether programs can be started from its file system
    executable: bool
    free: int
    cores: int
    #: seconds since 1970 by the host's clock
    clock: float
    home: str
    #: whether there is a root
    there: bool = True
    #: why others could alter the root; empty if they could not
    flaw: str = ""
    #: whether the runtime that was named is there; if none was named, whether any is
    have: bool = False


class Python(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter found on a host."""

    path: str
    #: what it runs on; None if it does not start
    platform: Platform | None = None
    sqlite: tuple[int, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether agents run on it."""
        return self.platform is not None and self.platform.version >= (3, 11) and self.sqlite >= (3, 35)

    def __str__(self) -> str:
        if self.platform is None:
            return f"{self.path} does not start"
        numbers = ".".join(str(number) for number in self.platform.version)
        return f"{self.path} is {numbers} with SQLite {'.'.join(str(number) for number in self.sqlite)}"


def set_up(host: Host) -> Facts:
    """Set a host up, or bring it up to date.

    Raises:
        HostNotReady: something is missing there; the message says what was found.
        HostLost: it cannot be reached.
    """
    python = find_python(host)
    assert python.platform is not None
    return install(host, python.path, build(python.platform))


def find_python(host: Host, noise: bytearray | None = None) -> Python:
    """Return a Python on the host that agents run on.

    Args:
        host: where to look.
        noise: collects what the host's shell prints before or between the answers.

    Raises:
        HostNotReady: there is none; those found are listed.
    """
    marker = secrets.token_hex(8)
    candidates = (host.python,) if host.python else CANDIDATES
    script = _PROBE.format(candidates=" ".join(candidates), marker=marker)
    with contextlib.closing(open_command(host, ["sh", "-c", script])) as channel:
        found: dict[str, Python] = {}
        for number, line in enumerate(marked(channel, marker, noise)):
            if line == "end":
                break
            if number == len(candidates):
                raise ProtocolError("it tells of more interpreters than it was asked for", host=host.name)
            python = _python(line)
            found[python.path] = python
    for python in found.values():
        if python.usable:
            return python
    seen = "; ".join(str(python) for python in found.values()) or "none"
    raise HostNotReady(
        f"no Python 3.11 or later with SQLite 3.35 or later; found: {seen}",
        hint='install one, and name it in the inventory if it is not on the PATH: python = "/path/to/python3"',
    )


def _python(line: str) -> Python:
    """Read one line of the probe; an interpreter that says anything else does not count as one."""
    path, *words = line.split() or ["?"]
    if len(words) != 5 or not all(map(re.fullmatch, (_NUMBER, _NUMBER, _NUMBERS), words)):
        return Python(path=path)
    platform = Platform(version=(int(words[0]), int(words[1])), machine=words[3], libc=words[4])
    return Python(path=path, platform=platform, sqlite=tuple(int(number) for number in words[2].split(".") if number))


def look(host: Host, python: str) -> Facts:
    """Return the facts about a host as `install` would, changing nothing there."""
    with _installing(host, python, "") as (channel, answers):
        facts = _decode(next(answers), Facts)
        channel.send(b"-1\n")
        next(answers)
    return facts


def install(host: Host, python: str, runtime: Runtime) -> Facts:
    """Ship the code if it is not there, write the launcher, make the host's own key.

    Raises:
        HostNotReady: the host lacks something, or its disk refuses.
        Refused: others could alter the root there.
    """
    with _installing(host, python, runtime.id) as (channel, answers):
        facts = _decode(next(answers), Facts)
        if facts.flaw:
            raise unsafe(facts.flaw)
        _check(facts)
        archive = b"" if facts.have else runtime.archive()
        channel.send(b"%d\n" % len(archive) + archive)
        answer = _decode(next(answers), _Installed)
    if answer.unsafe:
        raise unsafe(answer.unsafe)
    if answer.error:
        raise HostNotReady(f"cannot set up {facts.root}: {answer.error}")
    return facts


class _Installed(msgspec.Struct, frozen=True, kw_only=True):
    """The installer's last answer."""

    #: why the root could not be set up; empty if it was
    error: str = ""
    #: why others could alter it; empty if they could not
    unsafe: str = ""


def _decode(line: str, kind: type[Answer]) -> Answer:
    """Read an answer of the installer; what a host sends may be anything."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ProtocolError(f"the installer's answer cannot be read: {exc}") from exc


@contextlib.contextmanager
def _installing(host: Host, python: str, runtime: str) -> Iterator[tuple[Channel, Iterator[str]]]:
    """Run the installer on a host; yield the channel to it and the lines of its answers."""
    rule, program = (resources.files("sshmap").joinpath(*path).read_bytes() for path in (_RULE, _INSTALLER))
    loader = _MODULES.format(rule=len(rule), program=len(program)).encode()
    marker = secrets.token_hex(8)
    request = {"root": host.root, "runtime": runtime, "marker": marker}
    with contextlib.closing(open_command(host, [python, "-I", "-c", _LOADER])) as channel:
        channel.send(loader + rule + program + json.dumps(request).encode() + b"\n")
        yield channel, marked(channel, marker)


def _check(facts: Facts) -> None:
    """Refuse a host that lacks what agents need."""
    for problem, mend in hindrances(facts):
        raise HostNotReady(problem, hint=mend)


def hindrances(facts: Facts) -> Iterator[tuple[str, str]]:
    """Go through the reasons why a host cannot be set up, each with what mends it."""
    missing = [name for name, path in (("bash", facts.bash), ("ssh-keygen", facts.keygen)) if not path]
    another = "give the host another root in the inventory"
    if missing:
        yield f"the host has no {' and no '.join(missing)}", "install it there"
    if facts.bash and facts.bash_version < LEAST_BASH:
        wanted, found = (".".join(map(str, version)) for version in (LEAST_BASH, facts.bash_version))
        yield f"{facts.bash} on the host is version {found}", f"put bash {wanted} or later first in its PATH"
    if facts.flaw:
        yield f"the root is not safe to use: {facts.flaw}", "see what is there and take it away, or " + another
    if not facts.writable:
        yield f"{facts.root} cannot be written to", another
    if not facts.executable:
        yield f"{facts.root} is on a file system that starts no programs (noexec)", another
    if facts.free < LEAST_FREE:
        yield f"only {facts.free >> 20} MiB free for {facts.root}", f"free some space, or {another}"


def marked(channel: Channel, marker: str, noise: bytearray | None = None) -> Iterator[str]:
    """Go through the lines that follow a marker; all else is noise, skipped up to 64 KiB and quoted on failure.

    Args:
        channel: where lines come from.
        marker: what our lines begin with.
        noise: collects the other lines.

    Raises:
        ProtocolError: the host stopped talking, or printed too much else.
    """
    seen, noise = b"", bytearray() if noise is None else noise
    buffer = memoryview(bytearray(65536))
    while True:
        count = channel.recv_into(buffer)
        if not count:
            raise ProtocolError(
                f"the host ended the session before the command began{quote(noise + seen)}",
                hint=STARTUP_HINT,
            )
        *lines, seen = (seen + bytes(buffer[:count])).split(b"\n")
        for line in lines:
            before, found, rest = line.partition(f"{marker} ".encode())
            noise += before
            if found:
                yield rest.decode("utf-8", "replace")
        if len(noise) + len(seen) > MAX_NOISE:
            raise ProtocolError(
                f"the host prints too much{quote(noise + seen)}", hint="look at its shell start-up files"
            )
