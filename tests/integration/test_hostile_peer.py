"""A peer that lies to a host's courier: its files stay, it counts as one that does not answer, and the others are served."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.daemon import courier as courier_module
from sshmap.agent.session.server import PEER_REQUESTS, serve
from sshmap.errors import Refused, SshmapError
from sshmap.model import Peer
from sshmap.protocol import messages as m
from sshmap.store.layout import Root
from sshmap.store.notices import Counts, Notices
from sshmap.store.outbox import Outbox
from sshmap.transport import memory
from sshmap.transport.session import Session
from tests.conftest import wait_until
from tests.hostile import RECEIPT, Endless, Said, bounded_memory, speak
from tests.integration import test_courier
from tests.integration.test_courier import RING, Fleet, output_for
from tests.unit.benches import SPEC, Bench

fleet = test_courier.fleet
#: bytes that no lie takes
MEMORY = 96 << 20
RESULT = m.PutResult(output_for("h1", 0))
LIES: dict[str, list[Said] | Endless] = {
    "no result": [m.Synced()],
    "two results for a file": [m.Stored(results=(RESULT, RESULT)), m.Synced()],
    "results without an end": Endless(m.Stored(results=(RESULT,) * 1000)),
    "answers without a result": Endless(m.Stored(results=())),
    "a message of another request": [m.Wanted(wanted=True)],
    "content": [b"x"],
    "an error of an unknown kind": [m.Problem(kind="KeyError", message="x")],
}


@pytest.mark.parametrize("lie", LIES)
def test_peer_that_lies_takes_no_file_out_of_the_outbox(
    lie: str, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fleet.reach

    def reach(root: Root, peer: Peer) -> Session:
        if peer.name != "h1":
            return honest(root, peer)
        channel = memory.connect(lambda channel: speak(channel, {m.Sync: LIES[lie]}))
        return Session(channel, m.Hello(host="h1", ring=RING, caller="h0"))

    monkeypatch.setattr(courier_module, "open_peer", reach)
    fleet.post("h1", 1)
    fleet.post("h2", 1)
    outbox = Outbox(fleet.store.ledger)
    with bounded_memory(MEMORY):
        wait_until(lambda: fleet.waiting() == ["h1"] and outbox.stuck(1) == {"h1": 1})
    assert "h1" in outbox.why_stuck("h1")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Host h0 with a run of which h0 and h1 take part, and whose end people are told of."""
    root = Root(tmp_path / "root")
    with contextlib.closing(
        Session(memory.connect(lambda channel: serve(root, channel)), m.Hello(host="h0", ring=RING))
    ):
        bench = Bench(root)
    run = bench.begin("a1", SPEC, 2)
    Notices(bench.ledger).expect(run.seq, "notify", ("h0", "h1"))
    with contextlib.closing(bench.store):
        yield bench


@contextlib.contextmanager
def calling(bench: Bench, caller: str, key: str | None = None) -> Iterator[Session]:
    """Call h0 as a peer's courier does, with the key of that peer or another one."""
    channel = memory.connect(lambda channel: serve(bench.store.root, channel, peer=caller if key is None else key))
    with contextlib.closing(Session(channel, m.Hello(host="h0", ring=RING, caller=caller))) as session:
        yield session


FORBIDDEN: list[m.Message] = [
    m.Shell(name="in/x", command="touch here"), m.Shell(name="in/x", rows=24, columns=80), m.Resize(rows=1, columns=1),
    m.Exec(command="touch here"), m.Eval(name="in/x", command="touch here"), m.CancelRun(run="a1"), m.CancelRun(run="a1", halt=True),
    m.Jobs(), m.GetJob(run="a1"), m.ListAttempts(run="a1", stderr=True), m.Follow(run="a1"), m.Look(), m.Forget(age=0), m.Explain(job=SPEC),
    m.Open(job=SPEC, run="b1"), m.Plan(job=SPEC, run="a1", epoch=1), m.Start(job=SPEC, run="a1", epoch=1, notify="touch here", hosts=("h0",)),
    m.Prune(job=SPEC), m.Sweep(directories=(m.OutputDirectory("in/", RECEIPT),)), m.Remove(prefix="in/"), m.Get(prefix="", names=("in/x",)), m.Ls(prefix=""),
    m.ListBuckets(), m.SetPeers(peers=(), known_hosts=(), authorized=()), m.StartDaemon(), m.StopDaemon(), m.GetStatus(), m.Diagnose(), m.Relay(peer="h1"),
    m.Delivered(peer="h1", ids=(1,)),
]  # fmt: skip


@pytest.mark.parametrize("request_", FORBIDDEN, ids=lambda request: type(request).__name__)
def test_peer_is_refused_what_is_not_for_peers(bench: Bench, request_: m.Message) -> None:
    before = [*bench.ledger.db.iterdump()]
    with calling(bench, "h1") as session:
        with pytest.raises(Refused, match=f"a peer may not ask for {type(request_).__name__}"):
            session.ask(request_, m.Served)
        assert session.ask(m.Ping(), m.Served) == m.Served()
    assert [*bench.ledger.db.iterdump()] == before


def test_peer_may_ask_for_nothing_else_than_what_is_known_here() -> None:
    assert set(PEER_REQUESTS) == {m.Put, m.Sync, m.Has, m.RunOver, m.Ping}
    assert not {type(request) for request in FORBIDDEN} & set(PEER_REQUESTS)
    assert set(PEER_REQUESTS) <= set(typing.get_args(m.AnyMessage))


OVER = m.RunOver(run="a1", done=1, failed=2, cancelled=3)


def test_peer_that_takes_part_in_a_run_says_that_it_is_over_there(bench: Bench) -> None:
    with calling(bench, "h1") as session:
        assert session.ask(OVER, m.Served) == session.ask(OVER, m.Served) == m.Served()
    assert Notices(bench.ledger).heard("a1") == {"h1": Counts(done=1, failed=2, cancelled=3)}


@pytest.mark.parametrize(("caller", "run"), [("h2", "a1"), ("h1", "none"), ("h1", ""), ("h9", "a1"), ("h0\nh1", "a1")])
def test_peer_that_takes_no_part_in_a_run_says_nothing_about_it(bench: Bench, caller: str, run: str) -> None:
    with calling(bench, caller) as session:
        for _ in range(3):
            with pytest.raises(Refused, match="takes no part in run"):
                session.ask(m.RunOver(run=run, done=1, failed=0, cancelled=0), m.Served)
    assert bench.ledger.db.execute("SELECT count(*) FROM overs").fetchone() == (0,)


def test_client_is_no_host_of_a_run(bench: Bench) -> None:
    silent = bench.begin("c1", SPEC, 0)
    with calling(bench, "") as session, pytest.raises(Refused, match="a client takes no part"):
        session.ask(m.RunOver(run=silent.id, done=1, failed=0, cancelled=0), m.Served)


def test_peer_does_not_speak_for_another_one(bench: Bench) -> None:
    for caller in ("h1", ""):
        with pytest.raises(Refused, match="calls with the key of h2"), calling(bench, caller, key="h2"):
            pytest.fail("it was let in")


@pytest.mark.parametrize("count", [-1, 2**48 + 1, 2**63])
def test_counts_without_measure_are_refused(bench: Bench, count: int) -> None:
    with calling(bench, "h1") as session, pytest.raises((SshmapError, OverflowError)):
        session.ask(m.RunOver(run="a1", done=count, failed=0, cancelled=0), m.Served)
    assert Notices(bench.ledger).heard("a1") == {}
