"""Wheels of others, fetched by pip for the platform that a host has."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import msgspec

from sshmap.errors import HostNotReady, ProtocolError

#: the last minor version of glibc whose wheels are taken for hosts of another platform: that of Debian 11 and RHEL 8 is later
_GLIBC = 28


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """What compiled code depends on."""

    version: tuple[int, int]
    machine: str
    #: kind of C library, as glibc
    libc: str

    def __str__(self) -> str:
        return f"{self.python}-{self.machine}-{self.libc}"

    @property
    def python(self) -> str:
        """Python's version, as 3.11."""
        return ".".join(str(number) for number in self.version)

    @property
    def tags(self) -> tuple[str, ...]:
        """The platform's names in wheels."""
        if self.libc != "glibc":
            return tuple(f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1))
        minors = range(_GLIBC, 16, -1)
        return (*(f"manylinux_2_{minor}_{self.machine}" for minor in minors), f"manylinux2014_{self.machine}")


def here() -> Platform:
    """Return the platform of this process."""
    return Platform(version=sys.version_info[:2], machine=platform.machine(), libc=platform.libc_ver()[0])


def told(words: tuple[str, str, str]) -> Platform:
    """Return the platform of a host, which tells Python's version, machine and C library.

    Raises:
        ProtocolError: what it tells is no version, or no name of a machine or library.
    """
    version, machine, libc = words
    if not re.fullmatch("[0-9]{1,4}[.][0-9]{1,4}", version):
        raise ProtocolError(f"its Python is of version {version[:100]!r}, which is none")
    for word in (machine, libc):
        # they become part of a file's name here
        if not re.fullmatch("[A-Za-z0-9_]{0,40}", word):
            raise ProtocolError(f"it calls its machine or C library {word[:100]!r}, which is no name")
    major, minor = version.split(".")
    return Platform(version=(int(major), int(minor)), machine=machine, libc=libc)


def fetch(wanted: Platform, folder: str, *arguments: str, seconds: float) -> None:
    """Have pip fetch wheels into a directory.

    Args:
        wanted: the platform that they are for.
        folder: the directory.
        arguments: what to fetch, as `pip download` takes it.
        seconds: how long it may take.

    Raises:
        HostNotReady: pip cannot; the message is the last of what it said.
    """
    argv = [
        sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", folder,
        *(_foreign(wanted) if wanted != here() else ()), *arguments,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise HostNotReady(
            f"pip has not answered for {seconds:.0f} s", hint="see whether it reaches its index"
        ) from exc
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise HostNotReady(said[-1] if said else "pip failed")


def _foreign(wanted: Platform) -> list[str]:
    """Return the arguments for a platform that is not that of this process."""
    tags = [word for tag in wanted.tags for word in ("--platform", tag)]
    return [*tags, "--python-version", wanted.python]
