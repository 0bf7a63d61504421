"""What a run is allowed: workers, time, failures, memory. Belongs to a run and not to what its job is. Pure."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from sshmap.errors import UsageError
from sshmap.model import Count, Size

_JOBS = re.compile(r"\+?[0-9]{1,6}|[0-9]{1,6}(?:\.[0-9]+)?%")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKMGTP]?)(i?)B?")
_HALT = re.compile(r"(now|soon),fail=([0-9]{1,9})(%?)")
_PERCENT = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?)%")
_POWERS = "kMGTP"

Percent = Annotated[float, msgspec.Meta(ge=0)]
#: seconds
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run is allowed; where a number is 0, it is not limited."""

    #: most tasks at once on a host, as typed: a number, a share of its cores like ``50%``, or ``+2`` beyond its cores
    jobs: Annotated[str, msgspec.Meta(max_length=16)] = ""
    #: how often a failed task is tried again
    retries: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    #: most seconds that a command may take
    timeout: Seconds = 0.0
    #: most time that a command may take, in percent of the median of the finished ones
    timeout_percent: Percent = 0.0
    #: number of failed tasks, or their share in percent, at which no task begins any more
    halt_failed: Count = 0
    halt_percent: Percent = 0.0
    #: whether running commands are ended then, too
    halt_now: bool = False
    #: bytes of memory that must be available on a host for a task to begin
    memory_free: Size = 0
    #: added to the nice value of commands
    nice: Annotated[int, msgspec.Meta(ge=0, le=19)] = 0
    #: most bytes a second that leave a host
    rate: Size = 0

    def halts(self, failed: int, tasks: int) -> bool:
        """Say whether so many failures, of so many tasks, are too many."""
        if self.halt_failed and failed >= self.halt_failed:
            return True
        return bool(self.halt_percent and failed and 100 * failed >= self.halt_percent * tasks)


def slots(jobs: str, cores: int) -> int:
    """Return how many tasks of a run may run at once on a host; at least 1.

    Args:
        jobs: as typed: ``3``, ``50%`` or ``+2``; empty if that is not limited.
        cores: the host's.
    """
    if not jobs:
        return 1 << 30
    if jobs.endswith("%"):
        return max(1, int(cores * float(jobs[:-1]) / 100))
    return max(1, cores + int(jobs)) if jobs.startswith("+") else max(1, int(jobs))


def check_jobs(text: str) -> str:
    """Check what ``--jobs`` was given.

    Raises:
        UsageError: it is no number of tasks.
    """
    if not _JOBS.fullmatch(text) or (not float(text.strip("+%")) and not text.startswith("+")):
        raise UsageError(
            f"--jobs {text}: not a number of tasks", hint="write 4, 50% of a host's cores, or +2 beyond them"
        )
    return text


def parse_duration(text: str, option: str) -> float:
    """Read a time like ``90``, ``90s``, ``10m`` or ``1h30m``, and return its seconds.

    Raises:
        UsageError: it is none, or 0.
    """
    match = _DURATION.fullmatch(text)
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
        if match
        else 0
    )
    if not seconds:
        raise UsageError(f"{option} {text}: not a time", hint="write 90s, 10m, 1h30m or 3d")
    return seconds


def parse_size(text: str, option: str) -> int:
    """Read a number of bytes like ``500M`` or ``2G``; units are decimal, ``MiB`` and the like binary.

    Raises:
        UsageError: it is none, or 0.
    """
    match = _SIZE.fullmatch(text)
    power = _POWERS.find(match[2].replace("K", "k")) + 1 if match and match[2] else 0
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** power) if match else 0
    if not size:
        raise UsageError(f"{option} {text}: not a number of bytes", hint="write 500M, 2G or 2GiB")
    return size


def parse_halt(text: str) -> dict[str, object]:
    """Read ``now,fail=3`` or ``soon,fail=10%``, as GNU parallel writes it, and return fields of `Limits`.

    Raises:
        UsageError: it is neither.
    """
    match = _HALT.fullmatch(text)
    if not match or not int(match[2]):
        raise UsageError(f"--halt {text}: not known", hint="write soon,fail=3 or now,fail=10%")
    return {"halt_now": match[1] == "now", ("halt_percent" if match[3] else "halt_failed"): int(match[2])}


def parse_timeout(text: str) -> dict[str, float]:
    """Read a time, or a share of the median like ``300%``, and return fields of `Limits`.

    Raises:
        UsageError: it is neither, or 0.
    """
    if match := _PERCENT.fullmatch(text):
        if float(match[1]):
            return {"timeout_percent": float(match[1])}
        raise UsageError(f"--timeout {text}: no time is left", hint="write 10m, or 300% of the median")
    return {"timeout": parse_duration(text, "--timeout")}


def write_duration(seconds: float) -> str:
    """Write a time limit as it is typed."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and not seconds % size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
