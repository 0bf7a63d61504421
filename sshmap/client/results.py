"""What the client's calls return: data, per host and per task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sshmap.errors import HostsFailed, SshmapError
from sshmap.protocol import messages

Value = TypeVar("Value")
#: files per host from which on hashing spreads them well
_FEW = 50
#: failures of one copy that are kept: a host may report as many as it likes
MOST_FAILURES = 10_000


class Transfer(msgspec.Struct, kw_only=True):
    """What a copy has done."""

    #: keys that are new
    fresh: int = 0
    #: keys that were there already, with the same content
    kept: int = 0
    #: keys whose files were missing or damaged on their host, and are whole again
    repaired: int = 0
    #: bytes
    size: int = 0
    #: what went wrong, by key; the first `MOST_FAILURES`
    failures: dict[str, SshmapError] = {}
    #: number of keys beyond these that went wrong
    more_failures: int = 0
    #: hosts that were lost, with the reason
    lost: dict[str, SshmapError] = {}
    #: keys that did not arrive because their hosts were lost; None if there are an unknown number more
    missed: int | None = 0
    #: by host: keys that were copied in, and their bytes
    spread: dict[str, tuple[int, int]] = {}
    #: keys, or files here, that are gone because the other side does not have them
    deleted: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Keys that went wrong; not those whose hosts were lost."""
        return len(self.failures) + self.more_failures

    def arrived(self, host: str, size: int) -> None:
        """Note that a key of so many bytes is on a host, whether it was there before or not."""
        keys, bytes_there = self.spread.get(host, (0, 0))
        self.spread[host] = (keys + 1, bytes_there + size)

    def uneven(self, shares: dict[str, float]) -> str:
        """Return the host that has over twice its share of few files, if there is one.

        Args:
            shares: each host's share of all keys.
        """
        keys = sum(count for count, _ in self.spread.values())
        total = sum(size for _, size in self.spread.values())
        if not total or not len(shares) < keys < _FEW * len(shares):
            return ""
        fullest = max(self.spread, key=lambda host: self.spread[host][1] / shares[host])
        return fullest if self.spread[fullest][1] > 2 * shares[fullest] * total else ""

    def fail(self, name: str, error: SshmapError) -> None:
        """Note that a key went wrong."""
        if len(self.failures) < MOST_FAILURES:
            self.failures[name] = error
        else:
            self.more_failures += 1

    def check(self) -> Transfer:
        """Return this transfer if nothing went wrong.

        Raises:
            SshmapError: the gravest of its failures.
        """
        if errors := [*self.lost.values(), *self.failures.values()]:
            raise gravest(errors)
        return self

    def complete(self) -> Transfer:
        """Return this transfer if nothing went wrong.

        Raises:
            TransferFailed: something did; its ``result`` is this transfer.
        """
        if self.failures or self.lost:
            raise TransferFailed(self)
        return self


class TransferFailed(SshmapError):
    """A copy of many keys that is not complete; what is in ``result`` has been copied.

    The exit code is that of the gravest reason.
    """

    def __init__(self, result: Transfer) -> None:
        worst = gravest([*result.lost.values(), *result.failures.values()])
        super().__init__(worst.message, hint=worst.hint, host=worst.host)
        self.exit_code = worst.exit_code
        self.result = result


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that were deleted, or would be."""

    keys: int = 0
    #: bytes
    size: int = 0
    #: how many of the keys no job made: they were copied in, and nothing can make them again
    copied: int = 0
    #: bytes of these
    copied_size: int = 0
    #: hosts that did not answer
    failures: dict[str, SshmapError] = {}


class RemovalFailed(HostsFailed):
    """Hosts did not delete what they were told to; ``result`` says what the others deleted."""

    def __init__(self, result: Removal) -> None:
        super().__init__(result.failures, {})
        self.result = result


class Status(messages.Status, frozen=True, kw_only=True):
    """The status of a host, and how long its answer took."""

    #: seconds between question and answer
    round_trip: float = 0.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a host can be used as it is."""

    host: str
    #: what is wrong, each in a line
    reasons: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.reasons


def health_of(host: str, status: Status | None, failure: SshmapError | None) -> Health:
    """Judge a host by its status, or by why there is none."""
    reasons = [failure.message] if failure else []
    if status:
        reasons += status.findings
        reasons += [] if status.daemon else ["the daemon is not running: sshmap up"]
    return Health(host=host, reasons=tuple(reasons))


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong, or will be."""

    #: name of the host; empty for this machine
    host: str = ""
    problem: str
    #: a command, or what to change
    mend: str
    #: whether the host cannot be used before that is mended
    blocks: bool = False


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """What a command printed on a host, and its exit code."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    #: bytes of stdout and stderr together that were more than the limit, and not kept
    dropped: int = 0


#: called at each step with the number of keys or hosts that are done in it, and of bytes
Counted = Callable[[int, int], None]


def silent(_keys: int, _size: int) -> None:
    """Be a `Counted` that does nothing."""


def gravest(errors: list[SshmapError]) -> SshmapError:
    """Return the error with the highest exit code, the first if there are several."""
    return max(errors, key=lambda error: error.exit_code)


def all_of(results: dict[str, Value], failures: dict[str, SshmapError]) -> dict[str, Value]:
    """Return the results of all hosts, if none has failed.

    Raises:
        HostsFailed: hosts failed; its ``results`` are those of the others.
    """
    if failures:
        raise HostsFailed(failures, dict(results))
    return results


def raise_failures(failures: dict[str, SshmapError], results: dict[str, object]) -> None:
    """Raise the failures of hosts, if there are any: one as it is, several as one `HostsFailed`."""
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise HostsFailed(failures, results)
