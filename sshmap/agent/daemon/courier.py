"""The courier: sends the files in the outbox to the hosts where they belong.

One thread and one long-lived session per peer. Files are streamed without waiting for
each answer, a bounded number ahead; a file leaves the outbox when the peer says that it
has committed it. Sending one twice is harmless. A peer that does not answer is noted in
the ledger, so that whoever waits for a job can say so or carry the files itself, and is
tried again.
"""

from __future__ import annotations

import contextlib
import threading
import time

from sshmap.agent.host.peers import open_peer
from sshmap.agent.host.wake import Sleeper
from sshmap.agent.shuffle import AHEAD, AHEAD_SIZE, Outgoing, acknowledge, lose
from sshmap.errors import SshmapError
from sshmap.model import Peer
from sshmap.protocol.messages import DefineMaker, Put
from sshmap.store.commit import Store
from sshmap.store.layout import Root
from sshmap.store.queue import Parcel, Queue
from sshmap.transport.session import Session

LOOK = 30.0
FIRST_PAUSE, MOST_PAUSE = 0.1, 10.0


class Courier:
    """The courier of one host.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._store = Store(root)
        self._queue = Queue(self._store.ledger)
        self._sleeper = Sleeper(root, "courier")
        self._routes: dict[str, Route] = {}

    def look_once(self, seconds: float) -> None:
        """Start or wake the routes that have something to carry, then wait to be woken."""
        cluster = self._root.read_cluster()
        known = {peer.name: peer for peer in cluster.peers}
        for name in self._queue.peers_waiting():
            if cluster.shuffle == "relay":
                self._queue.set_stuck(name, "the inventory has its files relayed by the client")
                continue
            if name not in self._routes or not self._routes[name].alive:
                self._routes[name] = Route(self._root, known.get(name, Peer(name=name, connect="ssh", root="")))
            self._routes[name].nudge.set()
        self._sleeper.wait(seconds)

    @property
    def active(self) -> bool:
        """Whether the host has unfinished tasks."""
        return bool(self._queue.active())


class Route:
    """The way to one peer: a thread that empties its part of the outbox and then ends.

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
        pause = FIRST_PAUSE
        with contextlib.closing(store):
            while queue.parcels(self._peer.name, 0, 1):
                try:
                    with contextlib.closing(open_peer(self._root, self._peer)) as session:
                        queue.set_stuck(self._peer.name, "")
                        pause = FIRST_PAUSE
                        self._serve(session, store, queue)
                except (SshmapError, OSError) as exc:
                    queue.set_stuck(self._peer.name, str(exc))
                    time.sleep(pause)
                    pause = min(MOST_PAUSE, pause * 2)

    def _serve(self, session: Session, store: Store, queue: Queue) -> None:
        """Send what comes into the outbox; return when nothing has come for a while."""
        defined: set[bytes] = set()
        while True:
            self.nudge.clear()
            parcels = queue.parcels(self._peer.name, 0, AHEAD)
            if parcels:
                self._send(session, store, parcels, defined)
            elif not self.nudge.wait(LOOK):
                return

    def _send(self, session: Session, store: Store, parcels: list[Parcel], defined: set[bytes]) -> None:
        sent: list[Parcel] = []
        size = 0
        for parcel in parcels:
            try:
                outgoing = Outgoing(self._root, parcel)
            except FileNotFoundError:
                lose(store, parcel)
                break
            with contextlib.closing(outgoing):
                self._send_one(session, store, parcel, defined)
                outgoing.send(session)
            sent.append(parcel)
            size += parcel.size
            if size > AHEAD_SIZE:
                break
        results = zip(sent, session.sync(), strict=True)
        acknowledge(store, sent, {parcel.id: result.problem for parcel, result in results if result.problem})

    @staticmethod
    def _send_one(session: Session, store: Store, parcel: Parcel, defined: set[bytes]) -> None:
        """Announce one file, and before the first of a maker what made it."""
        identity = parcel.receipt.maker
        if identity not in defined and (maker := store.keys.maker(identity)):
            session.writer.message(DefineMaker(maker=maker), flush=False)
            defined.add(identity)
        session.writer.message(Put(name=parcel.name, receipt=parcel.receipt, replace=parcel.replaces), flush=False)
