"""Carrying fan-out files through the client, for hosts that cannot reach each other.

One thread per host that has such files, on sessions of its own, as long as the job runs.
The host stays their owner: they leave its outbox when the peer has committed them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

from sshmap.client.conversations import Links
from sshmap.errors import HostKeyRefused, SshmapError
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: seconds between two looks for files
PAUSE = 0.3
#: seconds after which a connection that broke is tried again
RETRY = 2.0


class Relays:
    """The relaying of one job.

    Args:
        links: the cluster.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._over = threading.Event()
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        #: those that reach both the host and the peer
        self._carrying: set[tuple[str, str]] = set()
        #: whether files were carried
        self.used = False

    def ensure(self, host: str, peers: set[str]) -> None:
        """Have somebody carry a host's files to these peers."""
        for peer in peers:
            if (host, peer) not in self._threads:
                thread = threading.Thread(target=self._carry, args=(host, peer), daemon=True)
                self._threads[host, peer] = thread
                thread.start()

    def carries(self, host: str, peers: Iterable[str]) -> bool:
        """Whether somebody carries a host's files to one of these peers now."""
        return any((host, peer) in self._carrying for peer in peers)

    def close(self) -> None:
        """Stop; what has not arrived stays in its outbox."""
        self._over.set()
        for thread in self._threads.values():
            thread.join(PAUSE)

    def _carry(self, host: str, peer: str) -> None:
        while not self._over.is_set():
            try:
                self._converse(host, peer)
            except HostKeyRefused:
                return
            except SshmapError:
                # the host itself reports that the files still wait, and for whom
                self._over.wait(RETRY)

    def _converse(self, host: str, peer: str) -> None:
        """Carry on one pair of sessions until the job is over.

        Raises:
            SshmapError: one of the two is lost.
        """
        with contextlib.closing(self._links.open(host)) as source, contextlib.closing(self._links.open(peer)) as target:
            self._carrying.add((host, peer))
            try:
                while not self._over.is_set():
                    if carry_some(source, target):
                        self.used = True
                    else:
                        self._over.wait(PAUSE)
            finally:
                self._carrying.discard((host, peer))


def carry_some(source: Session, target: Session) -> int:
    """Carry what waits on one host for another, a bounded amount at a time; return how many files.

    Raises:
        SshmapError: one of the two is lost.
    """
    ids: list[int] = []
    for message in source.stream(m.Relay(peer=target.host), m.Served):
        if isinstance(message, m.RelayItem):
            ids.append(message.id)
            target.writer.message(m.DefineMaker(maker=message.maker), flush=False)
            put = m.Put(name=message.name, receipt=message.receipt, replace=message.replace)
            target.writer.message(put, flush=False)
            _pass_on(source, target)
    if ids:
        results = zip(ids, target.sync(), strict=True)
        refused = {number: result.problem for number, result in results if result.problem}
        source.ask(m.Delivered(peer=target.host, ids=tuple(ids), refused=refused), m.Served)
    return len(ids)


def _pass_on(source: Session, target: Session) -> None:
    while isinstance(frame := source.frame(), memoryview):
        target.writer.data(frame)
    assert isinstance(frame, m.End)
    target.writer.message(frame, flush=False)
