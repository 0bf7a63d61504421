"""A session over ssh is served by the agent in the daemon, and by one of its own where that one cannot or may not."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.commands import stream_command
from sshmap.protocol import messages as m
from sshmap.store.layout import Root
from sshmap.transport.dial import dial
from sshmap.transport.session import Session
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import TRANSPORTS, SshdHosts

make_sshd_hosts = sshd.make_sshd_hosts

#: says which process serves the session: the parent of the command's supervisor
WHO = "cut -d' ' -f4 /proc/$PPID/stat"


@pytest.fixture(scope="module")
def standing(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """One host that is up."""
    hosts = make_sshd_hosts()
    hosts.add(1)
    with Cluster(hosts.inventory()) as cluster:
        assert cluster.up()[1] == {}
    return hosts


@pytest.fixture(params=TRANSPORTS)
def cluster(standing: SshdHosts, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The host as a cluster, reached in each way."""
    with Cluster(standing.inventory(str(request.param))) as opened:
        yield opened


@pytest.fixture
def root(standing: SshdHosts) -> Root:
    """The root of the host."""
    return Root(standing.hosts[0].root)


def listener_of(root: Root) -> int:
    """Return the process that listens in a root, once there is one."""
    found: list[int] = []

    def listens() -> list[int]:
        sockets = {
            f"socket:[{fields[6]}]"
            for line in Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()
            if (fields := line.split())[-1].startswith(str(root.path))
        }
        found[:] = [pid for pid in fleet.tree_of(root) if sockets.intersection(open_files(pid).values())]
        return found

    wait_until(listens, what="nobody listens")
    return found[0]


def server_of(cluster: Cluster) -> int:
    """Return the process that serves the cluster's session."""
    spoken = cluster.exec(WHO)
    return int(spoken["h0"].stdout)


def open_files(pid: int) -> dict[str, str]:
    """Return what a process has open, by descriptor."""
    found = {}
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found[entry.name] = str(entry.readlink())
    return found


def passing(standing: SshdHosts) -> list[int]:
    """Return the processes of sshd that a session was started in."""
    return [pid for pid in standing.hosts[0].tree() if " serve --root " in fleet.arguments_of(pid)]


def test_agent_of_the_daemon_serves_and_what_ssh_started_holds_nothing(
    cluster: Cluster, standing: SshdHosts, root: Root
) -> None:
    assert server_of(cluster) == listener_of(root)
    started = passing(standing)
    assert len(started) == 1
    wait_until(lambda: not {"0", "1"} & {*open_files(started[0])}, what="stdin and stdout stay open twice")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_session_that_ends_leaves_nothing_open_in_the_daemon(standing: SshdHosts, root: Root, transport: str) -> None:
    listener = listener_of(root)

    wait_until(lambda: not passing(standing), what="a session of another test goes on")
    before = open_files(listener).keys()
    with Cluster(standing.inventory(transport)) as cluster:
        assert server_of(cluster) == listener
        assert open_files(listener).keys() > before
    wait_until(lambda: open_files(listener).keys() == before, what="the daemon keeps files of a session that has ended")
    wait_until(lambda: not passing(standing), what="a process of a session is left")


def test_agent_that_stands_still_is_not_waited_for(cluster: Cluster, root: Root) -> None:
    listener = listener_of(root)
    fleet.freeze(listener)
    try:
        assert server_of(cluster) != listener
    finally:
        fleet.kill(listener, signal.SIGCONT)
    assert server_of(cluster) != listener, "a session stays where it is"
    with Cluster(cluster.inventory) as again:
        assert server_of(again) == listener


def test_agent_of_other_code_is_not_asked(cluster: Cluster, root: Root) -> None:
    runtime = root.locks / "daemon.runtime"
    ours = runtime.read_bytes()
    runtime.write_text("another\n", encoding="ascii")
    try:
        assert server_of(cluster) != listener_of(root)
    finally:
        runtime.write_bytes(ours)


def test_session_goes_on_when_the_agent_that_serves_it_is_killed(cluster: Cluster, root: Root) -> None:
    cluster.put(b"content", "sm://connection/k")
    listener = listener_of(root)
    assert server_of(cluster) == listener
    fleet.kill(listener)
    assert cluster.get("sm://connection/k") == b"content"
    assert server_of(cluster) != listener
    assert listener_of(root) != listener


def test_agent_that_is_to_be_alone_is_of_its_own(standing: SshdHosts, root: Root) -> None:
    """As `down` asks for it, which ends the daemon."""
    inventory = standing.inventory()
    hello = m.Hello(host="h0", ring=tuple(inventory.ring.members))
    for warm in (True, False):
        session = Session(dial(inventory.hosts[0], warm=warm), hello)
        said = io.BytesIO()
        with contextlib.closing(session):
            assert stream_command(session, m.Exec(command=WHO), said, io.BytesIO()) == 0
        assert (int(said.getvalue()) == listener_of(root)) is warm
