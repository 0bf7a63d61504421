"""Having all hosts read their keys against their digests; what is damaged is told of by name.

A conversation that breaks is begun again behind the last key that is known to have been read. What a host said of damage
before that is kept, as it may have put it aside without being heard.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import msgspec

from sshmap.client.conversations import Conversations
from sshmap.client.results import MOST_FAILURES, Counted, silent
from sshmap.errors import DigestMismatch, HostsFailed, InvalidKey, ProtocolError, SshmapError
from sshmap.model import MAX_NAME, Damage, check_name, show
from sshmap.placement import Ring
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: damaged keys that a host may tell of before it says that it has read them
_MOST_PENDING = 10_000
#: keys and bytes that a host may have read
_MOST_KEYS, _MOST_SIZE = 2**48, 2**62
#: what the paths begin with that files are put aside to
_QUARANTINE = "quarantine/"


class DamagedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that does not have the content that it was stored with."""

    key: str
    #: bytes that it was stored with
    size: int
    #: whether its file is missing, or is no plain file
    missing: bool
    #: whether it is no key any more, as it was asked for
    put_aside: bool = False
    #: where its file lies now, below the host's root; empty if it was left, or there was none
    path: str = ""

    @property
    def problem(self) -> str:
        """What is wrong, in words."""
        return "its file is missing" if self.missing else "content does not match its digest"


class Verification(msgspec.Struct, kw_only=True):
    """What reading its keys has shown of one host."""

    #: keys that were read, damaged ones too
    keys: int = 0
    #: bytes that were read
    size: int = 0
    #: keys whose content is not what was stored, and keys without a file
    damaged: int = 0
    missing: int = 0
    #: these, in the order of names; the first `MOST_FAILURES`
    damages: list[DamagedKey] = []

    def error(self, host: str, hint: str) -> DigestMismatch | None:
        """Return the error that says how many keys are damaged; None if none is."""
        bad = self.damaged + self.missing
        if not bad:
            return None
        return DigestMismatch(f"{bad} of {self.keys} keys are damaged", hint=hint, host=host)


class _Part:
    """What one host is asked, and what it has answered so far.

    Args:
        host: the host's name.
        request: what is asked for.
        ring: says which keys lie there.
        report: called with keys and bytes as they are read.
    """

    def __init__(self, host: str, request: m.Verify, ring: Ring, report: Counted) -> None:
        self._host, self._request, self._ring, self._report = host, request, ring, report
        self.found = Verification()
        #: grows with each answer that says something new
        self.heard = 0
        #: damaged keys behind the last one that is known to have been read, by name
        self._pending: dict[str, Damage] = {}
        #: those of them that a former conversation has brought: they were read then, and may be no keys any more
        self._former: set[str] = set()
        #: the last name that this conversation has brought, and bytes of the key after it
        self._last, self._reading = "", 0
        #: keys that it has read in this conversation
        self._read = 0

    def talk(self, session: Session) -> None:
        """Have the host read what is left.

        Raises:
            ProtocolError: it answers something else than what was asked for.
        """
        self._last, self._reading, self._read = self._request.after, 0, 0
        self._former = set(self._pending)
        for answer in session.stream(self._request, m.Served):
            if isinstance(answer, m.Damages):
                self._take_damages(answer)
                if self._request.quarantine:
                    session.writer.message(m.PutAside())
            elif isinstance(answer, m.Verified):
                self._take(answer)
            elif not isinstance(answer, m.Served) or answer.count != self._read:
                raise ProtocolError("it does not say what it has read", host=self._host)

    def _take_damages(self, page: m.Damages) -> None:
        names = [row.name for row in page.rows]
        for before, name in zip([self._last, *names], names, strict=False):
            self._check(name)
            if name <= before:
                raise ProtocolError("it tells of damaged keys out of order", host=self._host)
        if not names or len(self._pending) + len(names) > 2 * _MOST_PENDING:
            raise ProtocolError("it tells of damaged keys without end, or of none", host=self._host)
        self._last = names[-1]
        self._pending |= {row.name: row for row in page.rows}
        self._former.difference_update(names)

    def _take(self, page: m.Verified) -> None:
        if page.name != self._request.after:
            self._check(page.name)
        on = page.name > self._request.after
        if page.name < self._last or not (on or page.reading > self._reading):
            raise ProtocolError("it says that it has read what it had read before", host=self._host)
        if self.found.keys + page.keys > _MOST_KEYS or self.found.size + page.size > _MOST_SIZE:
            raise ProtocolError("it has read more than there can be", host=self._host)
        self.heard += 1
        self._last, self._reading = page.name, page.reading
        self._request = msgspec.structs.replace(self._request, after=page.name)
        self._read += page.keys
        self.found.keys += page.keys
        self.found.size += page.size
        self._settle(page.name, self._placed(page.aside))
        self._report(page.keys, page.size)

    def _placed(self, aside: tuple[m.Aside, ...]) -> dict[str, str]:
        """Check what was put aside, and return the paths by name."""
        for row in aside:
            known = row.name in self._pending and self._request.quarantine
            fits = not row.path or (row.path.startswith(_QUARANTINE) and len(row.path) < 2 * MAX_NAME)
            if not known or not fits or ".." in row.path.split("/"):
                raise ProtocolError("it has put aside what it should not", host=self._host)
        return {row.name: row.path for row in aside}

    def _check(self, name: str) -> None:
        """Refuse a name that is no key of this host, or was not asked for.

        Raises:
            ProtocolError: it is.
        """
        try:
            check_name(name)
        except InvalidKey as exc:
            raise ProtocolError(f"it sent a bad name: {exc.message}", host=self._host) from exc
        if not name.startswith(self._request.prefix) or self._ring.place(name) != self._host:
            raise ProtocolError(f"it tells of {name[:100]!r}, which was not asked for", host=self._host)

    def _settle(self, last: str, aside: Mapping[str, str]) -> None:
        """Count the damaged keys up to and with a name."""
        for name in sorted(name for name in self._pending if name <= last):
            row = self._pending.pop(name)
            self.found.keys += name in self._former
            self.found.missing += row.missing
            self.found.damaged += not row.missing
            if len(self.found.damages) < MOST_FAILURES:
                self.found.damages.append(
                    DamagedKey(
                        key=show(name),
                        size=row.size,
                        missing=row.missing,
                        put_aside=name in aside,
                        path=aside.get(name, ""),
                    )
                )

    def close(self) -> Verification:
        """Return what is known, also where the host was lost."""
        if self._pending:
            self._former = set(self._pending)
            self._settle(max(self._pending), {})
        return self.found


def verify_keys(
    conversations: Conversations, prefix: str, rate: int = 0, *, quarantine: bool = False, report: Counted = silent
) -> dict[str, Verification]:
    """Have all hosts read the keys that start with a prefix; return what each has found.

    Args:
        conversations: the way to the hosts.
        prefix: what the names start with; empty for all keys.
        rate: most bytes a second that each host reads; 0 if that is not limited.
        quarantine: put aside what is damaged.
        report: called with keys and bytes as they are read, one call at a time.

    Raises:
        HostsFailed: hosts failed; its ``results`` are those of all hosts, as far as they came.
    """
    guard = threading.Lock()

    def count(keys: int, size: int) -> None:
        with guard:
            report(keys, size)

    request = m.Verify(prefix=prefix, rate=rate, quarantine=quarantine)
    parts = {host.name: _Part(host.name, request, conversations.ring, count) for host in conversations.hosts}
    _, failures = conversations.gather(
        lambda host: conversations.ask(host, parts[host].talk, progress=lambda: parts[host].heard)
    )
    results = {host: part.close() for host, part in parts.items()}
    if failures:
        raise HostsFailed(failures, dict(results))
    return results


def errors_of(
    found: Mapping[str, Verification], failures: Mapping[str, SshmapError], hint: str
) -> dict[str, SshmapError]:
    """Return what is wrong, by host: that keys are damaged, that the host failed, or both in one.

    Args:
        found: what the hosts have found.
        failures: the hosts that failed.
        hint: what to do about damage.
    """
    errors: dict[str, SshmapError] = dict(failures)
    for host, verification in found.items():
        if error := verification.error(host, hint):
            error.message += f", and then: {errors[host].message}" if host in errors else ""
            errors[host] = error
    return errors
