"""Relaying fan-out files through the client, for hosts that cannot reach each other.

One thread per host that has such files, as long as the job runs; it serves one peer after the other.
The files stay in the host's outbox until the peer has committed them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from sshmap.client.conversations import Conversations
from sshmap.errors import HostKeyRefused, HostNotReady, ProtocolError, SshmapError
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: seconds between two looks for files
PAUSE = 0.3
#: seconds after which a connection that broke is tried again
RETRY = 2.0
#: files that a host sends at one request, several times what agents do
MOST_FILES = 2000


class Relays:
    """The relaying of one job.

    Args:
        conversations: the way to the hosts.
    """

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._over = threading.Event()
        self._guard = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        #: peers that files of a host wait for
        self._wanted: dict[str, set[str]] = {}
        #: pairs of host and peer of which both were reached at the last try
        self._carrying: set[tuple[str, str]] = set()
        #: whether files were carried
        self.used = False

    def ensure(self, host: str, peers: set[str]) -> None:
        """Have a host's files relayed to these peers, by a thread for the host."""
        if not peers:
            return
        with self._guard:
            self._wanted.setdefault(host, set()).update(peers)
            if host not in self._threads:
                thread = threading.Thread(target=self._carry, args=(host,), name=f"relay-{host}", daemon=True)
                self._threads[host] = thread
                thread.start()

    def carries(self, host: str, peers: Iterable[str]) -> bool:
        """Whether a host's files are being relayed to one of these peers."""
        return any((host, peer) in self._carrying for peer in peers)

    def close(self) -> None:
        """Stop; what has not arrived stays in its outbox."""
        self._over.set()
        for thread in self._threads.values():
            thread.join(PAUSE)

    def _carry(self, host: str) -> None:
        """Relay a host's files to one peer after the other until the job is over."""
        resting: dict[str, float] = {}
        while not self._over.is_set():
            with self._guard:
                peers = sorted(self._wanted[host])
            now = time.monotonic()
            carried = sum(self._carry_to(host, peer, resting) for peer in peers if resting.get(peer, 0) <= now)
            if not carried:
                self._over.wait(PAUSE)

    def _carry_to(self, host: str, peer: str, resting: dict[str, float]) -> int:
        """Relay the files that wait for one peer; a peer that cannot be reached is not tried again for a while."""
        try:
            with self._conversations.lease(host) as source, self._conversations.lease(peer) as target:
                self._carrying.add((host, peer))
                count = carry_some(source, target)
        except SshmapError as exc:
            # no error: the host itself reports which peers its files still wait for
            self._carrying.discard((host, peer))
            self._conversations.drop(host)
            self._conversations.drop(peer)
            resting[peer] = float("inf") if isinstance(exc, HostKeyRefused) else time.monotonic() + RETRY
            return 0
        self.used |= count > 0
        return count


def carry_some(source: Session, target: Session) -> int:
    """Relay some of the files that wait on one host for another; return how many.

    Raises:
        ProtocolError: one of the two says what does not belong into a relay.
        SshmapError: one of the two is lost.
    """
    ids: list[int] = []
    for message in source.stream(m.Relay(peer=target.host), m.Served):
        if isinstance(message, m.Served):
            break
        if not isinstance(message, m.RelayItem) or len(ids) >= MOST_FILES:
            raise ProtocolError(f"{type(message).__name__} came after {len(ids)} files to relay", host=source.host)
        if not ids:
            target.expect_end(m.Synced)
        ids.append(message.id)
        _pass_on(source, target, message)
    return _settle(source, target, ids) if ids else 0


def _settle(source: Session, target: Session, ids: list[int]) -> int:
    """Tell a host what has become of the files that were carried; return how many it need not keep.

    Raises:
        HostNotReady: it has to keep all of them, as the peer was not told of their job.
    """
    problems = {number: result.problem for number, result in zip(ids, target.sync(), strict=True) if result.problem}
    untold = {number for number, problem in problems.items() if problem.kind == HostNotReady.__name__}
    settled = tuple(number for number in ids if number not in untold)
    refused = {number: problem for number, problem in problems.items() if number not in untold}
    source.ask(m.Delivered(peer=target.host, ids=settled, refused=refused), m.Served)
    if untold and not settled:
        raise problems[min(untold)].error(target.host)
    return len(settled)


def _pass_on(source: Session, target: Session, item: m.RelayItem) -> None:
    put = m.Put(name=item.name, receipt=item.receipt, members=item.members, replace=item.replace, source=source.host)
    target.writer.message(put, flush=False)
    while isinstance(frame := source.frame(), memoryview):
        target.writer.data(frame)
    if not isinstance(frame, m.End):
        raise ProtocolError(f"{type(frame).__name__} came instead of End", host=source.host)
    target.writer.message(frame, flush=False)
