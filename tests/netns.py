"""Hosts that are really apart: each sshd in a network namespace of its own, with an address of its own.

A switch, which is a namespace too, joins them to each other and to this machine, the
laptop. What a test cuts is cut without a word: packets vanish, nobody is told.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pytest

from tests.integration import fleet
from tests.sshd import Place, Sshd, SshdHosts

_MISSING = (
    "the tests of cut networks make network namespaces: run them as root (with CAP_NET_ADMIN and CAP_SYS_ADMIN), "
    "with the packages iproute2 and iptables (as root, .ci/components installs them)"
)
_TRIES = 50
#: where a host is plugged in, seen from its own namespace
_PORT = "eth0"


def run(*argv: str) -> str:
    """Run an administrator's command and return what it prints; one that fails, fails the test."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    program = shutil.which(argv[0], path=path)
    if program is None:
        pytest.fail(f"no program {argv[0]}: {_MISSING}", pytrace=False)
    done = subprocess.run(
        [program, *argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"{' '.join(argv)}: {done.stderr.strip()}\n{_MISSING}", pytrace=False)
    return done.stdout


def within(namespace: str, *argv: str) -> str:
    """Run a command in a namespace."""
    return run("ip", "netns", "exec", namespace, *argv)


class Network:
    """A switch with this machine plugged in; its namespaces and interfaces vanish with `close`.

    The name of the switch claims its subnet: of two runs that choose the same, one makes the
    namespace and the other has to choose again.
    """

    def __init__(self) -> None:
        self._namespaces: list[str] = []
        self._subnet = self._claim()
        self._switch = self._namespaces[0]
        self.laptop = f"sm{self._subnet}"
        with self._whole_or_not():
            within(self._switch, "ip", "link", "add", "switch", "type", "bridge")
            within(self._switch, "ip", "link", "set", "switch", "up")
            run("ip", "link", "add", self.laptop, "type", "veth", "peer", "name", "laptop", "netns", self._switch)
            within(self._switch, "ip", "link", "set", "laptop", "master", "switch", "up")
            run("ip", "address", "add", f"{self._address(1)}/24", "dev", self.laptop)
            run("ip", "link", "set", self.laptop, "up")

    @contextlib.contextmanager
    def _whole_or_not(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _claim(self) -> str:
        taken = _routed()
        for _ in range(_TRIES):
            subnet = f"{random.randrange(64, 128)}.{random.randrange(256)}"
            name = f"sshmap-{subnet}"
            if not any(ipaddress.ip_network(f"10.{subnet}.0/24").overlaps(other) for other in taken):
                with contextlib.suppress(FileExistsError):
                    self._add(name)
                    return subnet
        pytest.fail("no free subnet in 10.64.0.0/10", pytrace=False)

    def _add(self, namespace: str) -> None:
        if Path("/run/netns", namespace).exists():
            raise FileExistsError(namespace)
        run("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)

    def _address(self, number: int) -> str:
        return f"10.{self._subnet}.{number}"

    def plug(self, number: int) -> Place:
        """Plug in a host and return its place."""
        namespace, port = f"{self._switch}-h{number}", f"h{number}"
        self._add(namespace)
        run("ip", "link", "add", _PORT, "netns", namespace, "type", "veth", "peer", "name", port, "netns", self._switch)
        within(self._switch, "ip", "link", "set", port, "master", "switch", "up")
        address = self._address(10 + number)
        within(namespace, "ip", "address", "add", f"{address}/24", "dev", _PORT)
        within(namespace, "ip", "link", "set", _PORT, "up")
        return Place(address, ("ip", "netns", "exec", namespace))

    @property
    def passed(self) -> int:
        """Bytes that this machine has sent to hosts and received from them."""
        counters = Path("/sys/class/net", self.laptop, "statistics")
        return sum(int((counters / name).read_text(encoding="ascii")) for name in ("rx_bytes", "tx_bytes"))

    def close(self) -> None:
        """Unplug everything."""
        for namespace in self._namespaces:
            for pid in run("ip", "netns", "pids", namespace).split():
                fleet.kill(int(pid))
        if Path("/sys/class/net", self.laptop).exists():
            run("ip", "link", "delete", self.laptop)
        while self._namespaces:
            run("ip", "netns", "delete", self._namespaces.pop())


def _routed() -> list[ipaddress.IPv4Network]:
    """Return the networks that this machine knows a way to."""
    words = [line.split() for line in run("ip", "-4", "route", "show", "table", "all").splitlines()]
    found = [next(word for word in line if word[0].isdigit()) for line in words if line[0] != "default"]
    return [ipaddress.IPv4Network(word, strict=False) for word in found]


class NetnsHosts(SshdHosts):
    """Some sshd, each in a namespace of its own, and the laptop, which is this machine.

    Args:
        top: an empty directory for all of it.
    """

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.network = Network()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.network.close()

    def place(self, number: int) -> Place:
        """Plug in one more host."""
        return self.network.plug(number)

    @contextlib.contextmanager
    def cut_off(self, host: Sshd) -> Iterator[None]:
        """Let every packet from and to a host vanish meanwhile."""
        with _dropped(host, ["INPUT", "-i", _PORT]), _dropped(host, ["OUTPUT", "-o", _PORT]):
            yield

    @contextlib.contextmanager
    def parted(self) -> Iterator[None]:
        """Let every packet from host to host vanish meanwhile; the laptop reaches them all."""
        with contextlib.ExitStack() as stack:
            for one, other in itertools.permutations(self.hosts, 2):
                stack.enter_context(_dropped(one, ["OUTPUT", "-d", other.place.address]))
            yield


@contextlib.contextmanager
def _dropped(host: Sshd, which: Sequence[str]) -> Iterator[None]:
    chain, *match = which
    namespace = host.place.prefix[-1]
    within(namespace, "iptables", "-w", "-I", chain, *match, "-j", "DROP")
    try:
        yield
    finally:
        within(namespace, "iptables", "-w", "-D", chain, *match, "-j", "DROP")


@pytest.fixture(scope="module")
def netns_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetnsHosts]:
    """No hosts yet; a module adds those that its tests share."""
    with NetnsHosts(tmp_path_factory.mktemp("netns") / "ssh") as hosts:
        yield hosts
