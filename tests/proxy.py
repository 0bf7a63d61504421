"""TCP proxies before real sshd that break connections at a chosen byte, with RST or FIN, and may refuse afterwards."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from sshmap import Cluster
from sshmap.inventory import Inventory
from tests.calls import Trial
from tests.conftest import processes_below, wait_until
from tests.sshd import SshdHosts

_PIECE = 1 << 16
#: closes with RST in place of FIN
_NO_LINGER = struct.pack("ii", 1, 0)


class Break(NamedTuple):
    """Where a connection ends."""

    #: so many bytes pass, of both directions together
    at: int
    #: end as a program does that closes its socket, not as a network that resets the connection
    fin: bool = False


class Proxy:
    """A port that leads to another one on this machine.

    Args:
        target: the other port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._guard = threading.Lock()
        self._breaks: list[Break] = []
        self._refuse = False
        self._open: set[socket.socket] = set()
        #: connections that were broken, and bytes of all connections, from the plan to the calm after it
        self.broken = self.passed = 0
        self._counting = False
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()

    def plan(self, *breaks: Break, refuse: bool = False) -> None:
        """Break the next connections, one by one; those after them are whole, or refused by the system."""
        with self._guard:
            self._breaks, self._refuse = list(breaks), refuse
            self.broken = self.passed = 0
            self._counting = True

    def calm(self) -> None:
        """Listen, and leave all further connections whole."""
        with self._guard:
            self._breaks, self._refuse, self._counting = [], False, False
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._close_listener()
        with self._guard:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._listener, self.port = listener, listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                # the thread that accepts wakes up
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                with self._guard:
                    planned = self._breaks.pop(0) if self._breaks else None
                threading.Thread(target=self._serve, args=(near, planned), daemon=True).start()

    def _serve(self, near: socket.socket, planned: Break | None) -> None:
        far = socket.create_connection(("127.0.0.1", self._target))
        with near, far, self._known(near, far), contextlib.suppress(OSError):
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._pass_on({near: far, far: near}, planned):
                self._break(near, far, planned)

    @contextlib.contextmanager
    def _known(self, *socks: socket.socket) -> Iterator[None]:
        with self._guard:
            self._open |= set(socks)
        try:
            yield
        finally:
            with self._guard:
                self._open -= set(socks)

    def _pass_on(self, other: dict[socket.socket, socket.socket], planned: Break | None) -> bool:
        """Carry bytes until one side ends; say whether it is to be broken before that."""
        passed = 0
        while True:
            ready, _, _ = select.select(list(other), [], [])
            for sock in ready:
                room = min(_PIECE, planned.at - passed) if planned else _PIECE
                if not room:
                    return True
                piece = sock.recv(room)
                if not piece:
                    return False
                other[sock].sendall(piece)
                passed += len(piece)
                with self._guard:
                    self.passed += len(piece) if self._counting else 0

    def _break(self, near: socket.socket, far: socket.socket, planned: Break | None) -> None:
        with self._guard:
            self.broken += 1
            last = self._refuse and not self._breaks
        if last:
            self._close_listener()
        if planned and not planned.fin:
            for sock in (near, far):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


class Proxies:
    """One proxy before each of some sshd.

    Args:
        hosts: the sshd; the laptop gets to know them by the ports of the proxies, too.
    """

    def __init__(self, hosts: SshdHosts) -> None:
        self.before = {host.name: Proxy(host.port) for host in hosts.hosts}
        self._hosts = hosts
        with hosts.known_hosts.open("a", encoding="utf-8") as known:
            for host in hosts.hosts:
                known.write(host.known_line.replace(host.known_name, f"[127.0.0.1]:{self.before[host.name].port}"))

    def inventory(self, transport: str) -> Inventory:
        """Return the inventory of the hosts as they are reached by the proxies."""
        inventory = self._hosts.inventory(transport)
        return replace(
            inventory, hosts=tuple(replace(host, port=self.before[host.name].port) for host in inventory.hosts)
        )

    def count(self) -> None:
        """Count what passes until the next calm."""
        for proxy in self.before.values():
            proxy.plan()

    def calm(self) -> None:
        """Leave all further connections whole."""
        for proxy in self.before.values():
            proxy.calm()

    def close(self) -> None:
        """Let go of nothing: all connections of a client end with it."""

    def end(self) -> None:
        """End all of them."""
        for proxy in self.before.values():
            proxy.close()


@contextlib.contextmanager
def standing(hosts: SshdHosts) -> Iterator[Proxies]:
    """Bring hosts up and put proxies before them; in the end nothing may be left of what they run."""
    inventory = hosts.inventory("openssh")
    with Cluster(inventory) as cluster:
        assert cluster.up()[1] == {}
    proxies = Proxies(hosts)
    try:
        yield proxies
        with Cluster(inventory) as cluster:
            cluster.down(purge=True)
        assert not [host.name for host in hosts.hosts if host.root.exists()]
        wait_until(lambda: not any(processes_below(host.root) for host in hosts.hosts), what="processes are left")
    finally:
        proxies.end()


def break_at_random(proxies: Proxies, trial: Trial, seed: int, *, times: int, fin: bool, refuse: bool) -> int:
    """Have a call's connections to one host break so many times in a row; return how many did.

    Args:
        proxies: the ways to the hosts.
        trial: the call.
        seed: says which host, and where.
        times: connections that break, one after the other.
        fin: as in `Break`.
        refuse: whether nothing listens afterwards.
    """
    some = random.Random(seed)
    trial.attempt(proxies.count, "undisturbed")
    proxy = some.choice([proxy for proxy in proxies.before.values() if proxy.passed])
    size = proxy.passed
    breaks = [Break(some.randrange(1, size), fin) for _ in range(times)]
    trial.attempt(lambda: proxy.plan(*breaks, refuse=refuse), f"seed {seed}: {breaks}, refuse={refuse}")
    return proxy.broken
