"""The courier of a host: so many ways at once, each peer in its turn, and where the cluster's file says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.daemon import courier as courier_module
from sshmap.agent.daemon.courier import Courier
from sshmap.agent.session.server import serve
from sshmap.errors import HostKeyRefused, HostLost
from sshmap.model import JobSpec, Maker, Peer, RunId, Verb
from sshmap.protocol.messages import Hello, Open, Opened
from sshmap.store.commit import Store
from sshmap.store.digest import digest_of
from sshmap.store.jobs import Jobs
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.outbox import Outbox
from sshmap.store.tasks import NewTask, Tasks
from sshmap.transport import memory
from sshmap.transport.session import Session
from tests.conftest import wait_until

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="ls"))
RING = tuple((f"h{number}", 1.0) for number in range(31))


def output_for(peer: str, number: int) -> str:
    """Name an output of a host's input that is placed on a peer."""
    return f"out/0_{peer}/{int(peer[1:]) + len(RING) * number}"


class Fleet:
    """A host with a courier, and peers that its sessions reach in this process."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = Root(top / "h0")
        self.root.create()
        self.tell({name: "right" for name, _ in RING[1:]})
        self.store = Store(self.root)
        self.courier = Courier(self.root)
        self.guard = threading.Lock()
        #: addresses that do not answer
        self.dead = {"wrong"}
        self.open: list[str] = []
        self.most = 0

    def tell(self, addresses: dict[str, str]) -> None:
        """Say in the cluster's file how to reach each peer."""
        peers = tuple(Peer(name=name, connect="ssh", root="", address=address) for name, address in addresses.items())
        self.root.write_cluster(ClusterFile(root_id="1", host="h0", ring=RING, fingerprint="", peers=peers))

    def reach(self, root: Root, peer: Peer) -> Session:
        """Open a session to a peer as the courier does."""
        if peer.address in self.dead:
            raise HostLost("refused")
        with self.guard:
            self.open.append(peer.name)
            self.most = max(self.most, len(self.open))
        place = Root(self.top / peer.name)
        with contextlib.closing(
            Session(memory.connect(lambda channel: serve(place, channel)), Hello(host=peer.name, ring=RING))
        ) as client:
            client.ask(Open(job=SPEC, run="run"), Opened)
        channel = memory.connect(lambda channel: serve(place, channel, peer="h0"))
        session = Session(channel, Hello(host=peer.name, ring=RING, caller="h0"))
        close = session.close

        def note_and_close() -> None:
            with self.guard:
                self.open.remove(peer.name)
            close()

        session.close = note_and_close  # type: ignore[method-assign]
        return session

    def post(self, name: str, count: int) -> None:
        """Have a task with some files that wait for a peer."""
        run = Jobs(self.store.ledger).open(SPEC, RunId("run"))
        with self.store.ledger.change():
            self.store.keys.remember(SPEC.maker)
            Tasks(self.store.ledger).enqueue(
                run, [NewTask(output=f"out/0_{name}/", members=(f"in/{name}",), inputs=b"i" * 16)]
            )
        (task,) = Tasks(self.store.ledger).claim(0, 1, fanouts=True)
        with self.store.ledger.change():
            for number in range(count):
                content = f"{name} {number}".encode()
                posted = Outbox(self.store.ledger).post(
                    task.id,
                    name,
                    output_for(name, number),
                    len(content),
                    digest_of(content),
                    task.receipt,
                    replaces=False,
                )
                (self.root.outbox / str(posted)).write_bytes(content)
            Tasks(self.store.ledger).send({task.id: 0})

    def waiting(self) -> list[str]:
        """Look once, and return the peers for which something waits."""
        self.courier.look_once(0.01)
        return Outbox(self.store.ledger).peers_waiting()

    def members_at(self, name: str) -> tuple[str, ...]:
        """Return from what a peer's first key was made, as it knows."""
        with contextlib.closing(Store(Root(self.top / name))) as store:
            return store.keys.members_of(output_for(name, 0))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """One host and thirty peers."""
    made = Fleet(tmp_path)
    monkeypatch.setattr(courier_module, "open_peer", made.reach)
    yield made
    made.courier.close()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("route-")])
    made.store.close()


def test_many_peers_are_served_over_a_few_ways(fleet: Fleet) -> None:
    for name, _ in RING[1:]:
        fleet.post(name, 3)
    wait_until(lambda: not fleet.waiting())
    assert fleet.most <= courier_module.MOST_ROUTES == 8
    assert Jobs(fleet.store.ledger).active() == {}


def test_peers_know_from_what_their_keys_were_made(fleet: Fleet) -> None:
    fleet.post("h1", 1)
    wait_until(lambda: not fleet.waiting())
    assert fleet.members_at("h1") == ("in/h1",)


def test_peer_with_much_to_carry_does_not_starve_the_others(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there is only one way."""
    monkeypatch.setattr(courier_module, "MOST_ROUTES", 1)
    monkeypatch.setattr(courier_module, "TURN", 0.0)
    monkeypatch.setattr(courier_module, "AHEAD", 2)
    fleet.post("h1", 60)
    fleet.post("h2", 2)
    fleet.post("h3", 2)
    wait_until(lambda: fleet.waiting() == ["h1"])
    wait_until(lambda: not fleet.waiting())
    assert fleet.most == 1


def test_peers_that_do_not_answer_leave_the_ways_to_the_others(fleet: Fleet) -> None:
    fleet.tell({name: "wrong" if number % 2 else "right" for number, (name, _) in enumerate(RING) if number})
    for name, _ in RING[1:]:
        fleet.post(name, 1)
    dead = sorted(f"h{number}" for number in range(1, 31, 2))
    wait_until(lambda: fleet.waiting() == dead)
    # the last of them may still be waiting for its first turn
    wait_until(lambda: fleet.waiting() == dead and sorted(Outbox(fleet.store.ledger).stuck(1)) == dead)


def test_address_that_is_told_anew_is_used(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "FIRST_PAUSE", courier_module.MOST_PAUSE)
    fleet.tell({"h1": "wrong"})
    fleet.post("h1", 2)
    wait_until(lambda: fleet.waiting() and Outbox(fleet.store.ledger).stuck(1))
    fleet.tell({"h1": "right"})
    wait_until(
        lambda: not fleet.waiting(), limit=courier_module.MOST_PAUSE / 2, what="it waits out the pause of the former"
    )
    assert Outbox(fleet.store.ledger).stuck(1) == {}


def test_live_way_to_a_former_address_ends_and_the_new_one_is_used(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that still answers, as the former listener at that address goes on."""
    used: list[str] = []
    reach = fleet.reach

    def noting(root: Root, peer: Peer) -> Session:
        used.append(peer.address)
        return reach(root, peer)

    monkeypatch.setattr(courier_module, "open_peer", noting)
    fleet.post("h1", 1)
    wait_until(lambda: not fleet.waiting())
    (route,) = fleet.courier._routes.values()
    # it may be about to look for files once more, and would take the next one itself
    wait_until(lambda: vars(route._nudge)["_cond"]._waiters, what="the way does not come to rest")
    fleet.tell({"h1": "elsewhere"})
    fleet.post("h1", 1)
    wait_until(lambda: not fleet.waiting() and fleet.open == ["h1"])
    assert used == ["right", "elsewhere"]


def test_kind_of_a_failure_is_a_value(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that sound like it do not make it one."""

    def refuse(root: Root, peer: Peer) -> Session:
        if peer.name == "h1":
            raise HostKeyRefused("the key is unknown")
        raise HostLost("its host key file is not readable")

    monkeypatch.setattr(courier_module, "open_peer", refuse)
    fleet.post("h1", 1)
    fleet.post("h2", 1)
    wait_until(lambda: fleet.waiting() and len(Outbox(fleet.store.ledger).stuck(1)) == 2)
    assert Outbox(fleet.store.ledger).barred() == ["h1"]
