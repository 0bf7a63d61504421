"""What a host can do to another with the key by which it brings fan-out files there: a real login, and a Hello of its choice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sshmap import Cluster
from sshmap.agent.host import lifecycle
from sshmap.errors import Refused
from sshmap.protocol import messages as m
from sshmap.store.layout import Root
from sshmap.transport import openssh
from sshmap.transport.session import Session
from sshmap.transport.target import Target
from tests import sshd
from tests.sshd import SshdHosts, user_name

make_sshd_hosts = sshd.make_sshd_hosts


@pytest.fixture(scope="module")
def standing(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """Two hosts that know each other, their daemons stopped, a key on each."""
    hosts = make_sshd_hosts()
    hosts.add(2)
    with Cluster(hosts.inventory()) as cluster:
        assert cluster.up()[1] == {}
        cluster.put(b"x", "sm://b/0")
        cluster.put(b"y", "sm://b/1")
        cluster.down()
    return hosts


def as_peer(hosts: SshdHosts, **hello: object) -> Session:
    """Log in to h1 with the key of h0 and say what a hostile host would."""
    one, other = hosts.hosts
    target = Target(
        address="127.0.0.1", port=other.port, user=user_name(), identity_file=str(one.root / "ssh" / "key"),
        known_hosts=str(one.root / "ssh" / "known_hosts"), config="none",
    )  # fmt: skip
    said = {"host": "h1", "ring": tuple(hosts.inventory().ring.members), **hello}
    return Session(openssh.connect(target, ["sshmap-peer"]), m.Hello(**said))  # type: ignore[arg-type]


def test_peer_starts_no_daemon_that_was_stopped(standing: SshdHosts) -> None:
    session = as_peer(standing, caller="h0", autostart=True)
    try:
        assert session.ask(m.Ping(), m.Served) == m.Served()
        assert not lifecycle.is_running(Root(standing.hosts[1].root))
    finally:
        session.close()


def test_peer_neither_stops_nor_deletes_a_host(standing: SshdHosts) -> None:
    session = as_peer(standing, caller="h0", ending=True)
    try:
        with pytest.raises(Refused, match="peer may not ask for StopDaemon"):
            session.ask(m.StopDaemon(purge=True), m.DaemonStopped)
    finally:
        session.close()
    assert (standing.hosts[1].root / "data" / "b" / "1").read_bytes() == b"y"


@pytest.mark.parametrize("hello", [{"autostart": True}, {"ending": True}], ids=["start", "end"])
@pytest.mark.parametrize("caller", ["", "h1"])
def test_peer_that_passes_for_somebody_else_is_refused(
    standing: SshdHosts, caller: str, hello: dict[str, object]
) -> None:
    with pytest.raises(Refused, match="calls with the key of h0"):
        as_peer(standing, caller=caller, **hello)
    assert not lifecycle.is_running(Root(standing.hosts[1].root))
    assert (standing.hosts[1].root / "data" / "b" / "1").read_bytes() == b"y"
