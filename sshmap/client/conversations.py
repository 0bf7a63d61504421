"""The conversations of a client with its hosts.

A session is leased for one request and its answers, by one thread, and kept for the next
lease only if the last message of the request was read; else it is closed. So no answer can
reach another caller than the one that asked, however many threads use a `Cluster`, and whatever
request or listing is abandoned half way.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from sshmap.client.errands import Errands
from sshmap.client.gathering import gather
from sshmap.client.retrying import BREAKS, Retries, persist
from sshmap.errors import SshmapError
from sshmap.inventory import Host, Inventory
from sshmap.model import Peer
from sshmap.protocol.messages import CancelNoted, CancelRun, Hello, Ping, Served
from sshmap.transport.dial import dial
from sshmap.transport.session import Session

Value = TypeVar("Value")
#: most hosts that are connected to at the same time, and most behind the same gateway, as its sshd has a MaxStartups
CONNECTING, THROUGH_GATEWAY = 32, 8
#: most sessions with one host that are kept for later requests
MOST_KEPT = 4
#: bytes from which on content is sent through the transport for large content, where that is another one
BULK = 1 << 20


class Conversations:
    """The sessions of a client. Safe for several threads.

    Args:
        inventory: the hosts.
        autostart: whether hosts on this machine start their daemons when a request comes.
    """

    def __init__(self, inventory: Inventory, *, autostart: bool = True) -> None:
        self.inventory = inventory
        self._autostart = autostart
        self.ring = inventory.ring
        self._hosts = {host.name: host for host in inventory.hosts}
        # where hosts are reached by ssh, `up` tells them about each other
        self._peers = tuple(map(_peer, inventory.hosts)) if all(host.is_local for host in inventory.hosts) else ()
        self._kept: dict[tuple[str, bool], list[Session]] = {}
        #: grows when all sessions are closed: those leased at that time are not kept afterwards
        self._closings = 0
        self._connecting = threading.BoundedSemaphore(CONNECTING)
        self._gates: dict[str, threading.BoundedSemaphore] = {}
        self._guard = threading.Lock()
        self._errands = Errands(self._hosts)
        #: held while a host is told what it need not remember any more, so that what it hears last is true
        self._noting = threading.RLock()
        #: of each thread: whether it is telling that now; what it hears meanwhile has others told later, so that this ends
        self._telling = threading.local()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts of the inventory."""
        return self.inventory.hosts

    def splits_by_size(self, host: str) -> bool:
        """Say whether small content is to be sent to a host on another session than large content.

        So it is where a session for small content is kept. Where none is, as in a command line that only copies, one
        session for everything costs less than opening two.
        """
        with self._guard:
            return self._has_bulk(host) and bool(self._kept.get((host, False)))

    def _has_bulk(self, host: str) -> bool:
        return self._hosts[host].transport == "auto" and not self._hosts[host].is_local

    def ask(
        self, host: str, call: Callable[[Session], Value], *, bulk: bool = False, progress: Callable[[], object] = int
    ) -> Value:
        """Make a request that may be made again when the session breaks.

        Args:
            host: name of the host.
            call: makes the request, or what is left of it, on a session.
            bulk: whether the request sends or fetches large content.
            progress: returns something that differs whenever the request has got further.

        Raises:
            SshmapError: what the host reports, or HostLost.
        """
        (value,) = self.converse(host, lambda session: [call(session)], bulk=bulk, progress=progress)
        return value

    def converse(
        self,
        host: str,
        talk: Callable[[Session], Iterable[Value]],
        *,
        bulk: bool = False,
        progress: Callable[[], object] = int,
    ) -> Generator[Value]:
        """Make a request and pass on its answers one by one; as `ask`."""
        retries = Retries(progress)
        return persist(retries, lambda: self._talk(host, talk, retries, bulk=bulk))

    def _talk(
        self, host: str, talk: Callable[[Session], Iterable[Value]], retries: Retries, *, bulk: bool
    ) -> Iterator[Value]:
        kept = self._take(host, bulk=bulk)
        try:
            with self._leased(kept or self.open(host, bulk=bulk), bulk=bulk) as session:
                retries.opened = True
                yield from talk(session)
        except SshmapError as exc:
            exc.host = exc.host or host
            if kept and isinstance(exc, BREAKS):
                # the other kept sessions with this host are likely to be dead as well
                self.drop(host)
                retries.uncount_break()
            raise

    def once(self, host: str, call: Callable[[Session], Value]) -> Value:
        """Make a request that must not be made twice, on a session that has just answered.

        Raises:
            SshmapError: what the host reports, or HostLost: then it is not known whether the request was carried out.
        """
        self.ask(host, lambda session: session.ask(Ping(), Served))
        with self.lease(host) as session:
            try:
                return call(session)
            except SshmapError as exc:
                exc.host = exc.host or host
                raise

    @contextlib.contextmanager
    def lease(self, host: str, *, bulk: bool = False) -> Iterator[Session]:
        """Lease a session for one request and its answers."""
        with self._leased(self._take(host, bulk=bulk) or self.open(host, bulk=bulk), bulk=bulk) as session:
            yield session

    @contextlib.contextmanager
    def _leased(self, session: Session, *, bulk: bool) -> Iterator[Session]:
        closings = self._closings
        try:
            self._run_errands(session)
            yield session
        finally:
            if not self._keep(session, closings, bulk=bulk):
                session.close()

    def _run_errands(self, session: Session) -> None:
        """Tell a host of the cancels that it has not been told of, then the hosts that remembered them."""
        if getattr(self._telling, "now", False):
            return
        for owed, noters in self._errands.take(session.host):
            session.ask(CancelRun(run=owed.run, force=owed.force), CancelNoted)
            with self._noting:
                left = self._errands.settle(owed, session.host)
                self._tell(noters, CancelRun(run=owed.run, force=owed.force, unreached=left))

    def _tell(self, noters: Iterable[str], told: CancelRun) -> None:
        self._telling.now = True
        try:
            for noter in noters:
                with contextlib.suppress(SshmapError):  # it remembers, and a later client tells this host once more
                    self.ask(noter, lambda session: session.ask(told, CancelNoted))
        finally:
            self._telling.now = False

    def run_errands(self) -> bool:
        """Tell hosts of cancels that only hosts met after them remembered; say whether there were any."""
        told = False
        for host in self._errands.hosts():
            # one that was not met is not called for this
            if session := self._take(host, bulk=False):
                with contextlib.suppress(SshmapError), self._leased(session, bulk=False):
                    told = True
        return told

    def _take(self, host: str, *, bulk: bool) -> Session | None:
        with self._guard:
            kept = self._kept.get((host, bulk and self._has_bulk(host)))
            return kept.pop() if kept else None

    def _keep(self, session: Session, closings: int, *, bulk: bool) -> bool:
        """Keep a session for later, unless messages of a request are still to come on it; say whether it was kept."""
        with self._guard:
            kept = self._kept.setdefault((session.host, bulk and self._has_bulk(session.host)), [])
            if not session.idle or closings != self._closings or len(kept) >= MOST_KEPT:
                return False
            kept.append(session)
            return True

    def open(self, name: str, *, warm: bool = True, bulk: bool = False, ending: bool = False) -> Session:
        """Open a session, which belongs to the caller.

        Args:
            name: the host.
            warm: whether an agent inside the daemon may serve it.
            bulk: whether the session is for large content.
            ending: whether the session only stops the daemon, for which it needs no whole root.

        Raises:
            HostLost: the host cannot be reached.
            RingChanged: the host's keys were placed by another inventory.
        """
        host = self._hosts[name]
        hello = Hello(
            host=name, ring=tuple(self.ring.members), peers=self._peers, workers=host.workers, idle_stop=host.idle_stop,
            reserve=host.reserve_bytes, scrub=host.scrub_seconds, shuffle=self.inventory.shuffle,
            autostart=self._autostart and host.is_local and not ending, ending=ending,
        )  # fmt: skip
        with self.gate(host):
            session = Session(dial(host, warm=warm, bulk=bulk), hello)
        self._errands.note(name, session.welcome.owed)
        return session

    @contextlib.contextmanager
    def gate(self, host: Host) -> Iterator[None]:
        """Wait until few enough other threads are connecting, to any host and through this host's gateway."""
        with contextlib.ExitStack() as stack:
            if host.gateway:
                with self._guard:
                    gate = self._gates.setdefault(host.gateway, threading.BoundedSemaphore(THROUGH_GATEWAY))
                stack.enter_context(gate)
            stack.enter_context(self._connecting)
            yield

    def gather(
        self, call: Callable[[str], Value], names: Iterable[str] | None = None, limit: float | None = None
    ) -> tuple[dict[str, Value], dict[str, SshmapError]]:
        """Do something for every host at once.

        Args:
            call: what to do, given a host's name.
            names: which hosts; all of them if None.
            limit: seconds after which hosts that have not answered count as lost; none if None.

        Returns:
            What came back, and what failed, by host.
        """
        return gather(call, (host.name for host in self.hosts) if names is None else names, limit)

    def drop(self, host: str) -> None:
        """Close the sessions with a host that are not leased now."""
        with self._guard:
            dropped = [session for bulk in (False, True) for session in self._kept.pop((host, bulk), [])]
        for session in dropped:
            session.close()

    def close(self) -> None:
        """Close all sessions; one that is leased now is closed when its request has ended."""
        self.run_errands()
        with self._guard:
            self._closings += 1
            dropped = [session for kept in self._kept.values() for session in kept]
            self._kept.clear()
        for session in dropped:
            session.close()


def _peer(host: Host) -> Peer:
    return Peer(
        name=host.name, connect=host.connect, root=host.root, address=host.address, port=host.port, user=host.user
    )
