"""The courier: sends the files in the outbox to the hosts where they belong.

One thread and one long-lived session per peer. Files are streamed without waiting for
each answer, a bounded number ahead; a file leaves the outbox when the peer says that it
has committed it. Sending one twice is harmless. A peer that does not answer is noted in
the ledger, so that whoever waits for a job can say so, and is tried again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from sshmap.agent.wake import Sleeper, wake
from sshmap.errors import SshmapError
from sshmap.model import Peer
from sshmap.protocol.messages import End, Hello, Introduce, Put, PutResult, Stored, Sync, Synced
from sshmap.store.commit import Store
from sshmap.store.digest import Hasher
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.queue import Parcel, Queue
from sshmap.transport.peers import dial_peer
from sshmap.transport.session import Session

#: files sent before their answers are awaited
AHEAD = 256
#: bytes sent before answers are awaited
AHEAD_SIZE = 256 << 20
CHUNK = 256 * 1024
LOOK = 30.0
MOST_PAUSE = 10.0


class Courier:
    """The courier of one host.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._cluster = root.read_cluster()
        self._store = Store(root)
        self._queue = Queue(self._store.ledger)
        self._sleeper = Sleeper(root, "courier")
        self._routes: dict[str, Route] = {}

    def look_once(self, seconds: float) -> None:
        """Start or wake the routes that have something to carry, then wait to be woken."""
        for peer in self._queue.peers_waiting():
            if peer not in self._routes or not self._routes[peer].alive:
                self._routes[peer] = Route(self._root, self._peer(peer))
            self._routes[peer].nudge.set()
        self._sleeper.wait(seconds)

    def _peer(self, name: str) -> Peer:
        cluster = self._root.read_cluster()
        known = {peer.name: peer for peer in cluster.peers}
        return known.get(name, Peer(name=name, connect="ssh", root=""))

    @property
    def active(self) -> bool:
        """Whether the host has unfinished tasks."""
        return bool(self._queue.active())


class Route:
    """The way to one peer: a thread that empties its part of the outbox.

    Args:
        root: the host's root.
        peer: where the files go.
    """

    def __init__(self, root: Root, peer: Peer) -> None:
        self._root, self._peer = root, peer
        self.nudge = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"route-{peer.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        store = Store(self._root)
        queue = Queue(store.ledger)
        pause = 0.1
        while True:
            try:
                with contextlib.closing(self._open()) as session:
                    queue.set_stuck(self._peer.name, "")
                    pause = 0.1
                    self._serve(session, store, queue)
            except (SshmapError, OSError) as exc:
                queue.set_stuck(self._peer.name, str(exc))
                time.sleep(pause)
                pause = min(MOST_PAUSE, pause * 2)

    def _open(self) -> Session:
        cluster: ClusterFile = self._root.read_cluster()
        hello = Hello(host=self._peer.name, ring=cluster.ring, caller=cluster.host)
        return Session(dial_peer(self._peer, str(self._root.path)), hello)

    def _serve(self, session: Session, store: Store, queue: Queue) -> None:
        introduced: set[bytes] = set()
        while True:
            self.nudge.clear()
            parcels = queue.parcels(self._peer.name, 0, AHEAD)
            if not parcels:
                if not self.nudge.wait(LOOK):
                    return
                continue
            self._send(session, store, queue, parcels, introduced)

    def _send(
        self, session: Session, store: Store, queue: Queue, parcels: list[Parcel], introduced: set[bytes]
    ) -> None:
        sent: list[Parcel] = []
        size = 0
        for parcel in parcels:
            if parcel.receipt.maker not in introduced and (maker := store.keys.maker(parcel.receipt.maker)):
                session.writer.message(Introduce(maker=maker), flush=False)
                introduced.add(parcel.receipt.maker)
            try:
                outgoing = _Outgoing(self._root, parcel.id)
            except FileNotFoundError:
                with store.ledger.change():
                    queue.rewind(parcel.task)
                wake(self._root, "worker")
                break
            self._stream(session, parcel, outgoing)
            sent.append(parcel)
            size += parcel.size
            if size > AHEAD_SIZE:
                break
        session.writer.message(Sync())
        results = collect_results(session)
        self._settle(store, queue, sent, results)

    @staticmethod
    def _stream(session: Session, parcel: Parcel, outgoing: _Outgoing) -> None:
        session.writer.message(Put(name=parcel.name, receipt=parcel.receipt, replace=parcel.replaces), flush=False)
        hasher = Hasher()
        buffer = memoryview(bytearray(min(CHUNK, parcel.size + 1)))
        with contextlib.closing(outgoing):
            while count := outgoing.read_into(buffer):
                hasher.update(buffer[:count])
                session.writer.data(buffer[:count])
        session.writer.message(End(size=hasher.size, digest=hasher.digest), flush=False)

    def _settle(self, store: Store, queue: Queue, sent: list[Parcel], results: list[PutResult]) -> None:
        arrived = [parcel for parcel, result in zip(sent, results, strict=True) if result.problem is None]
        with store.ledger.change():
            queue.delivered(arrived)
            for parcel, result in zip(sent, results, strict=True):
                if result.problem is not None:
                    queue.fail(parcel.task, result.problem.kind, result.problem.message, 0)
        for parcel in sent:
            (self._root.outbox / str(parcel.id)).unlink(missing_ok=True)
        wake(self._root, "worker")


class _Outgoing:
    """A file of the outbox, open for reading."""

    def __init__(self, root: Root, number: int) -> None:
        self._fd = os.open(root.outbox / str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def read_into(self, buffer: memoryview) -> int:
        """Read some; 0 at the end."""
        return os.readv(self._fd, [buffer])

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def collect_results(session: Session) -> list[PutResult]:
    """Read the results of all Puts up to the answer to Sync."""
    results: list[PutResult] = []
    while not isinstance(message := session.next(), Synced):
        if isinstance(message, Stored):
            results += message.results
    return results
