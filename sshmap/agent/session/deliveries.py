"""Which fan-out files a host takes from others.

A peer, or a client that relays for one, may bring an output of a fan-out that a client has opened on this host, and
nothing else: below the fan-out's OUTDIR, placed on this host, from the host that its input is placed on, made by that
job's maker. It may swap a key only if the job replaces outputs, and never a key that was copied in. So a compromised
host can spoil outputs of jobs that it takes part in, which it makes anyway, and no other key.
"""

from __future__ import annotations

from sshmap.errors import HostNotReady, Refused
from sshmap.model import show
from sshmap.placement import Ring
from sshmap.protocol.messages import Put
from sshmap.store.commit import Store
from sshmap.store.jobs import Fanout, Jobs


class Deliveries:
    """The fan-out files that one session brings.

    Args:
        store: the host's store.
        ring: the hosts.
        host: this host's name.
        caller: the peer that brings them; empty if a client does.
    """

    def __init__(self, store: Store, ring: Ring, host: str, caller: str) -> None:
        self._jobs = Jobs(store.ledger)
        self._ring, self._host, self._caller = ring, host, caller
        self._known: dict[bytes, list[Fanout]] = {}

    def check(self, put: Put) -> None:
        """Refuse a Put that neither copies a key in nor brings an output of a fan-out that belongs here.

        Raises:
            HostNotReady: no client has opened the fan-out on this host yet.
            Refused: the file is no output of a fan-out, may not replace keys, belongs on another host or comes from a wrong one.
        """
        if put.receipt is None:
            if self._caller:
                raise Refused(f"{show(put.name)} has no receipt, so it is no output of a fan-out")
            return
        brought_by = self._caller or put.source
        fanout = self._fanout(put, put.receipt.maker)
        if put.replace and not fanout.replaces:
            raise Refused(f"{show(put.name)}: its job does not replace keys")
        self._check_place(put, fanout, brought_by)

    def _check_place(self, put: Put, fanout: Fanout, brought_by: str) -> None:
        directory, _, base = put.name[len(fanout.outdir) :].partition("/")
        if not base or "/" in base:
            raise Refused(f"{show(put.name)} is not named as an output of a fan-out")
        if (owner := self._ring.place(put.name)) != self._host:
            raise Refused(f"{show(put.name)} belongs on {owner}")
        if (source := self._ring.place(directory)) != brought_by:
            raise Refused(f"{show(put.name)} can only come from {source}, not from {brought_by or 'a client'}")

    def _fanout(self, put: Put, maker: bytes) -> Fanout:
        """Return the fan-out whose output this may be; if none of those read before fits, read them from the ledger again."""
        for fresh in (False, True):
            if fresh or maker not in self._known:
                self._known[maker] = self._jobs.fanouts(maker)
            for fanout in self._known[maker]:
                if put.name.startswith(fanout.outdir) and (fanout.replaces or not put.replace):
                    return fanout
        for fanout in self._known[maker]:
            if put.name.startswith(fanout.outdir):
                return fanout
        raise HostNotReady(
            f"{self._host} was not told of the fan-out that makes {show(put.name)}", hint="run the same command again"
        )
