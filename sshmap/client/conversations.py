"""One session per host, opened when it is needed and kept; and the asking of many hosts at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from sshmap.client.gathering import gather
from sshmap.errors import ConnectionDropped, HostKeyRefused, HostLost, HostNotReady, ProtocolError, SshmapError
from sshmap.inventory import Host, Inventory
from sshmap.model import Peer
from sshmap.protocol.messages import Hello
from sshmap.transport.dial import dial
from sshmap.transport.session import Session

Value = TypeVar("Value")
#: times a request is made again on a new session when its session breaks
AGAIN = 9
#: hosts behind one gateway that are connected to at the same time
THROUGH_GATEWAY = 8


def again(
    call: Callable[[], Value],
    before: Callable[[], None] = lambda: None,
    kinds: tuple[type[SshmapError], ...] = (ConnectionDropped,),
) -> Value:
    """Do something that may be repeated, some times, as long as the connection breaks or is dropped before login.

    Args:
        call: what to do.
        before: what to do before the next try.
        kinds: errors that are worth another try.
    """
    import tenacity  # only a broken session needs it

    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(kinds), stop=tenacity.stop_after_attempt(AGAIN),
        wait=tenacity.wait_exponential(multiplier=0.1, max=2) + tenacity.wait_random(0, 0.7),
        before_sleep=lambda _: before(), reraise=True,
    )  # fmt: skip
    return retry(call)


def worth_another(error: HostLost, *, opened: bool) -> bool:
    """Say whether a host is asked again: one that broke off is, one that cannot be reached now is not."""
    return not isinstance(error, HostNotReady | HostKeyRefused) and (opened or isinstance(error, ProtocolError))


class Links:
    """The sessions of a client.

    Args:
        inventory: the hosts.
        autostart: whether hosts on this machine may start their daemons when they are asked something.
    """

    def __init__(self, inventory: Inventory, *, autostart: bool = True) -> None:
        self.inventory = inventory
        self._autostart = autostart
        self.ring = inventory.ring
        self._hosts = {host.name: host for host in inventory.hosts}
        # hosts reached by ssh are introduced to each other by `up`
        self._peers = tuple(map(_peer, inventory.hosts)) if all(host.is_local for host in inventory.hosts) else ()
        self._sessions: dict[str, Session] = {}
        self._gates: dict[str, threading.BoundedSemaphore] = {}
        self._guard = threading.Lock()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts of the inventory."""
        return self.inventory.hosts

    def session(self, name: str) -> Session:
        """Return the session of a host, opening it if there is none.

        Raises:
            HostLost: the host cannot be reached.
            RingChanged: the host's data lies by another inventory.
        """
        with self._guard:
            if session := self._sessions.get(name):
                return session
        session = self.open(name)
        with self._guard:
            self._sessions[name] = session
        return session

    def open(self, name: str, *, warm: bool = True) -> Session:
        """Open a session of its own to a host.

        Args:
            name: the host.
            warm: whether an agent inside the daemon may serve it.
        """
        host = self._hosts[name]
        hello = Hello(
            host=name, ring=tuple(self.ring.members), peers=self._peers, workers=host.workers, idle_stop=host.idle_stop,
            shuffle=self.inventory.shuffle, autostart=self._autostart and host.is_local,
        )  # fmt: skip
        with self.gate(host):
            try:
                return Session(dial(host, warm=warm), hello)
            except ConnectionDropped:
                return again(lambda: Session(dial(host, warm=warm), hello))

    def gate(self, host: Host) -> contextlib.AbstractContextManager[object]:
        """Let only some connect through one gateway at a time: it has a MaxStartups, too."""
        if not host.gateway:
            return contextlib.nullcontext()
        with self._guard:
            return self._gates.setdefault(host.gateway, threading.BoundedSemaphore(THROUGH_GATEWAY))

    def drop(self, name: str) -> None:
        """Forget a session that broke."""
        with self._guard:
            session = self._sessions.pop(name, None)
        if session:
            session.close()

    def ask(self, name: str, call: Callable[[Session], Value]) -> Value:
        """Run a request that may be repeated; a broken session is opened again a few times.

        Raises:
            SshmapError: what the host reports, or HostLost.
        """
        opened = False
        try:
            session = self.session(name)
            opened = True
            return call(session)
        except HostLost as exc:
            self.drop(name)
            exc.host = exc.host or name
            if not worth_another(exc, opened=opened):
                raise
            return self._again(name, call)
        except SshmapError as exc:
            exc.host = exc.host or name
            raise

    def _again(self, name: str, call: Callable[[Session], Value]) -> Value:
        return again(lambda: call(self.session(name)), lambda: self.drop(name), (ConnectionDropped, ProtocolError))

    def gather(
        self, call: Callable[[str], Value], names: Iterable[str] | None = None
    ) -> tuple[dict[str, Value], dict[str, SshmapError]]:
        """Do something for every host at once.

        Args:
            call: what to do, given a host's name.
            names: which hosts; all of them if None.

        Returns:
            What came back, and what failed, by host.
        """
        return gather(call, (host.name for host in self.hosts) if names is None else names)

    def close(self) -> None:
        """End all sessions."""
        while self._sessions:
            self._sessions.popitem()[1].close()


def _peer(host: Host) -> Peer:
    return Peer(
        name=host.name, connect=host.connect, root=host.root, address=host.address, port=host.port, user=host.user
    )
