"""The courier: sends the files in the outbox to the hosts where they belong.

One thread and one session per peer, to a bounded number of peers at once. Files are streamed without waiting for each
answer, up to a number of unanswered files; a file leaves the outbox when the peer says that it has committed it. Sending one twice
is harmless. Where more peers wait than may be served, each has its turn, in the order in which they were served last.
A peer that does not answer is noted in the ledger, so that a client that follows the job can report it or relay the
files, and is tried again after a pause.

Few peers are logged in to at once, of those that failed last time one: where all hosts are busy, more logins at once
would make each take longer, until none is ready in time. Its process also scrubs (see `scrub`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from sshmap.agent.daemon.announcing import Announcing
from sshmap.agent.daemon.scrub import Scrubber
from sshmap.agent.host.peers import open_peer
from sshmap.agent.host.throttle import Throttles
from sshmap.agent.host.wake import Sleeper, wake
from sshmap.agent.shuffle import AHEAD, AHEAD_SIZE, Outgoing, acknowledge, drop_sending, lose
from sshmap.errors import HostLost, HostNotReady, SshmapError
from sshmap.model import Peer
from sshmap.protocol.messages import Put
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.forgetting import Forgetting
from sshmap.store.jobs import Jobs
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.outbox import Outbox, Parcel
from sshmap.transport.session import Session

#: peers that are served at the same time
MOST_ROUTES = 8
#: peers that are logged in to at the same time; of those that failed last time, one
LOGINS = 2
#: seconds after which a route without files ends, and after which a route with files ends if other peers wait
IDLE, TURN = 30.0, 1.0
FIRST_PAUSE, MOST_PAUSE = 0.1, 10.0
#: seconds between two looks at least: few large steps cost less than many; and between two steps of forgetting
_LOOK, _FORGET = 0.1, 1.0


class Courier:
    """The courier of one host.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._store = Store(root)
        self._outbox, self._jobs = Outbox(self._store.ledger), Jobs(self._store.ledger)
        self._announcing = Announcing(root, self._store)
        self._endings, self._forgetting = Endings(self._store.ledger), Forgetting(self._store)
        self._sleeper = Sleeper(root, "courier")
        self._scrubber = Scrubber(root)
        self._routes: dict[Peer, Route] = {}
        self._throttles = Throttles()
        #: by peer: when its turn began last; and after a failure, when the next may begin and how long that pause is
        self._began: dict[str, float] = {}
        self._later: dict[Peer, tuple[float, float]] = {}
        self._looked = self._forgot = 0.0
        #: the cluster's file as it was read last, and which state of it that was
        self._cluster, self._read = root.read_cluster(), (0, 0)

    def look_once(self, seconds: float) -> None:
        """Start, wake and end routes by the outbox and cluster.json, cancel tasks of runs that are ending, delete some old history, then wait to be woken."""
        time.sleep(max(0.0, self._looked + _LOOK - time.monotonic()))
        self._looked = time.monotonic()
        self._collect()
        cluster = self._present_cluster()
        later = self._announcing.look(cluster)
        self._scrubber.tell(cluster.scrub)
        waiting = self._outbox.peers_waiting()
        if cluster.shuffle == "relay":
            for name in waiting:
                self._outbox.note_stuck(name, HostLost.__name__, "the inventory has its files relayed by the client")
            waiting = []
        known = {peer.name: peer for peer in cluster.peers}
        pause = self._send([known.get(name, Peer(name=name, connect="ssh", root="")) for name in waiting])
        more = self._endings.drop_queued() or drop_sending(self._store) or self._forget()
        self._sleeper.wait(0.0 if more else min(seconds, pause, later))

    def _present_cluster(self) -> ClusterFile:
        """Return the cluster's file, which is replaced as a whole when it changes."""
        status = os.stat(self._root.cluster_file)
        if (state := (status.st_ino, status.st_mtime_ns)) != self._read:
            self._cluster, self._read = self._root.read_cluster(), state
        return self._cluster

    def _forget(self) -> bool:
        """Forget a little of what is old, now and then; say whether there is more."""
        if self._looked - self._forgot < _FORGET:
            return False
        more = self._forgetting.step()
        self._forgot = 0.0 if more else self._looked
        return more

    def _send(self, peers: list[Peer]) -> float:
        """Start routes to these peers, as many as are free, and wake those that run; return the seconds until another may be tried."""
        now = time.monotonic()
        idle = [peer for peer in peers if peer not in self._routes]
        ready = sorted(
            (peer for peer in idle if self._next(peer) <= now), key=lambda peer: self._began.get(peer.name, 0.0)
        )
        free = max(0, MOST_ROUTES - len(self._routes))
        for peer in self._admitted(ready)[:free]:
            self._began[peer.name] = now
            self._routes[peer] = Route(self._root, peer, self._throttles)
        told = {peer.name for peer in peers}
        for peer, route in self._routes.items():
            # a peer whose address has changed gets another route
            route.go_on(crowded=len(ready) > free, leave=peer.name in told and peer not in peers)
        return min((self._next(peer) - now for peer in idle if self._next(peer) > now), default=MOST_PAUSE * 3)

    def _admitted(self, ready: list[Peer]) -> list[Peer]:
        """Return those peers that may be logged in to now."""
        waiting = [peer for peer, route in self._routes.items() if not route.reached]
        failed = sum(peer in self._later for peer in waiting)
        others = [peer for peer in ready if peer not in self._later]
        again = [peer for peer in ready if peer in self._later]
        return others[: max(0, LOGINS - len(waiting) + failed)] + again[: max(0, 1 - failed)]

    def _next(self, peer: Peer) -> float:
        """Return when a peer may be tried; 0 if that is now, as also after a client has opened a job since the peer failed."""
        later = self._later.get(peer, (0.0, 0.0))[0]
        return later if later and self._outbox.is_stuck(peer.name) else 0.0

    def _collect(self) -> None:
        """Remove the routes that have ended; after a failure, set the pause until the peer is tried again, longer each time."""
        for peer, route in list(self._routes.items()):
            if route.ended:
                del self._routes[peer]
                _, pause = self._later.pop(peer, (0.0, 0.0))
                if route.failed:
                    pause = min(MOST_PAUSE, 2 * pause or FIRST_PAUSE)
                    self._later[peer] = (time.monotonic() + pause, pause)

    def close(self) -> None:
        """End all routes, the scrub and the ledger."""
        for route in self._routes.values():
            route.go_on(crowded=False, leave=True)
        self._scrubber.close()
        self._sleeper.close()
        self._store.close()

    @property
    def active(self) -> bool:
        """Whether the host has unfinished tasks."""
        return bool(self._jobs.active())


class Route:
    """The way to one peer: a thread that sends it files until there are none, its turn is over, or the peer fails.

    Args:
        root: the host's root.
        peer: where the files go.
        throttles: by run, how fast its files may leave this host, on all routes together.
    """

    def __init__(self, root: Root, peer: Peer, throttles: Throttles) -> None:
        self._root, self._peer, self._throttles = root, peer, throttles
        self._nudge = threading.Event()
        self._crowded = self._leave = False
        #: whether the peer has let it in; and whether the peer could not be served
        self.reached = self.failed = False
        self._thread = threading.Thread(target=self._run, name=f"route-{peer.name}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def go_on(self, *, crowded: bool, leave: bool) -> None:
        """Wake the route, so that it looks for files.

        Args:
            crowded: other peers wait for their turn.
            leave: end as soon as what was sent is answered.
        """
        self._crowded, self._leave = crowded, leave
        self._nudge.set()

    def _run(self) -> None:
        with contextlib.closing(Store(self._root)) as store:
            outbox = Outbox(store.ledger)
            try:
                with contextlib.closing(open_peer(self._root, self._peer)) as session:
                    outbox.note_reached(self._peer.name)
                    self.reached = True
                    wake(self._root, "courier")
                    self._serve(session, store, outbox)
            except (SshmapError, OSError) as exc:
                self.failed = True
                kind = type(exc) if isinstance(exc, SshmapError) else HostLost
                outbox.note_stuck(self._peer.name, kind.__name__, str(exc))
        wake(self._root, "courier")

    def _serve(self, session: Session, store: Store, outbox: Outbox) -> None:
        """Send what is in the outbox and comes into it until the route's time is over."""
        began = time.monotonic()
        while not self._leave:
            self._nudge.clear()
            parcels = outbox.parcels(self._peer.name, AHEAD)
            sent = self._send(session, store, parcels) if parcels else 0
            if self._crowded and not parcels:
                return
            # what comes meanwhile is told by the next look
            if sent == len(parcels) < AHEAD and not self._crowded and not self._nudge.wait(IDLE):
                return
            if self._crowded and time.monotonic() - began > TURN:
                return

    def _send(self, session: Session, store: Store, parcels: list[Parcel]) -> int:
        """Send files and take them out of the outbox when the peer has them; return how many."""
        sent: list[Parcel] = []
        size = 0
        for parcel in parcels:
            try:
                outgoing = Outgoing(self._root, parcel)
            except FileNotFoundError:
                lose(store, parcel)
                break
            with contextlib.closing(outgoing):
                put = Put(name=parcel.name, receipt=parcel.receipt, members=parcel.members, replace=parcel.replaces)
                session.writer.message(put, flush=False)
                outgoing.send(session, self._throttles.of(parcel.run, parcel.rate).wait)
            sent.append(parcel)
            size += parcel.size
            if size > AHEAD_SIZE:
                break
        problems = {
            parcel.id: result.problem for parcel, result in zip(sent, session.sync(), strict=True) if result.problem
        }
        untold = [problem for problem in problems.values() if problem.kind == HostNotReady.__name__]
        acknowledge(store, [parcel for parcel in sent if problems.get(parcel.id) not in untold], problems)
        if untold:
            # these files stay in the outbox: the peer takes them once a client has opened the job there
            raise untold[0].error(self._peer.name)
        return len(sent)
