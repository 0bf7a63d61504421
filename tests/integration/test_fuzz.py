"""Any frames in any order: no bug shows, nothing hangs, nothing outside is touched, and the next session is served."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sshmap import Cluster
from sshmap.agent.session.server import serve
from sshmap.errors import SshmapError
from sshmap.model import Verb
from sshmap.protocol import messages as m
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root
from sshmap.transport import memory
from sshmap.transport.session import Session
from tests import cutting, fuzz
from tests.conftest import files_below
from tests.cutting import SEAM, in_time
from tests.hostile import SPEC, Hosts
from tests.lies import INVENTORY, RUN
from tests.unit.benches import Bench

impatient = cutting.impatient
#: sessions; `make fault` has a hundred times as many
SESSIONS = 150
QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False)
CALLS: dict[type[m.Message], Callable[[Cluster, Path], object]] = {
    m.Ls: lambda cluster, out: list(cluster.ls("sm://b/")), m.Get: lambda cluster, out: cluster.get_tree("sm://b/", out).check(),
    m.Sync: lambda cluster, out: cluster.put(b"x", "sm://b/000_k"), m.Remove: lambda cluster, out: cluster.rm("sm://b/000_k"),
    m.Eval: lambda cluster, out: cluster.eval("sm://b/000_k", "cat", io.BytesIO(), io.BytesIO()), m.Exec: lambda cluster, out: cluster.exec("true"),
    m.GetStatus: lambda cluster, out: cluster.statuses(), m.Jobs: lambda cluster, out: cluster.jobs(), m.ListBuckets: lambda cluster, out: cluster.buckets(),
    m.CountOutputs: lambda cluster, out: cluster.fanout("sm://b/", "sm://o/", "cat"), m.Plan: lambda cluster, out: cluster.map("sm://b/", "sm://o/", "cat"),
    m.Start: lambda cluster, out: cluster.fanout("sm://b/", "sm://o/", "cat", replace=True),
    m.Verify: lambda cluster, out: cluster.verify("sm://b/", quarantine=True),
    m.ListAttempts: lambda cluster, out: list(cluster.attempts("last", stderr=True)), m.Follow: lambda cluster, out: cluster.attach("last"),
    m.CancelRun: lambda cluster, out: cluster.cancel("last"), m.GetJob: lambda cluster, out: cluster.retry("last"),
    m.Explain: lambda cluster, out: cluster.explain(Verb.MAP, "sm://b/", "sm://o/", "cat"), m.Look: lambda cluster, out: cluster.look(),
    m.Forget: lambda cluster, out: cluster.forget(0),
}  # fmt: skip


@pytest.fixture
def no_thread_fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread that ends by an exception is a failure."""
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    yield
    assert not [f"{one.exc_type.__name__}: {one.exc_value}" for one in failed]


@pytest.mark.usefixtures("no_thread_fails")
def test_agent_takes_any_frames_without_a_bug(tmp_path: Path, canary: Path) -> None:
    send_anything(tmp_path, SESSIONS)


def send_anything(tmp_path: Path, sessions: int) -> None:
    """Have an agent serve sessions of any frames, and then one as it should be."""
    root = tmp_path / "root"

    @settings(QUIET, max_examples=sessions)
    @given(fuzz.REQUESTS)
    def send(frames: list[bytes]) -> None:
        complaints = in_time(lambda: fuzz.ask_anything(root, frames))
        assert isinstance(complaints, list)
        assert not [complaint for complaint in complaints if "a bug in sshmap" in complaint]

    send()
    session = Session(memory.connect(lambda channel: serve(Root(root), channel)), fuzz.HELLO)
    assert session.ask(m.Ping(), m.Served) == m.Served()
    session.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"root", "canary", "home"}


@pytest.mark.usefixtures("no_thread_fails")
def test_agent_takes_any_requests_about_a_run_without_a_bug(tmp_path: Path, canary: Path) -> None:
    root = tmp_path / "root"
    session = Session(memory.connect(lambda channel: serve(Root(root), channel)), fuzz.HELLO)
    session.writer.message(m.Put(name="b/k"))
    session.writer.message(m.End(size=0, digest=digest_of(b"")))
    assert [result.problem for result in session.sync()] == [None]
    session.close()
    bench = Bench(Root(root))
    with contextlib.closing(bench.store):
        bench.begin("a1", SPEC, 3)
        for number, task in enumerate(bench.claim(3)):
            bench.end(task, fails=number == 0)
        before = bench.ledger.db.execute("SELECT count(*) FROM attempts").fetchone()

        @settings(QUIET, max_examples=SESSIONS // 3)
        @given(st.lists(fuzz.about_run("a1"), min_size=1, max_size=6))
        def send(frames: list[bytes]) -> None:
            complaints = in_time(lambda: fuzz.ask_anything(root, frames))
            assert isinstance(complaints, list)
            assert not [complaint for complaint in complaints if "a bug in sshmap" in complaint]

        send()
        assert bench.ledger.db.execute("SELECT count(*) FROM attempts").fetchone() == before


@pytest.mark.usefixtures("no_thread_fails", "impatient")
@pytest.mark.parametrize("request_kind", CALLS, ids=lambda kind: kind.__name__)
def test_client_takes_any_frames_without_a_bug(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, request_kind: type[m.Message]
) -> None:
    answer_anything(tmp_path, canary, monkeypatch, request_kind, SESSIONS // 4)


def answer_anything(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, request_kind: type[m.Message], sessions: int
) -> None:
    """Have a client make calls whose requests of a kind are answered by any frames."""
    out = tmp_path / "out"

    @settings(QUIET, max_examples=sessions)
    @given(st.data())
    def answer(data: st.DataObject) -> None:
        frames = data.draw(fuzz.ANSWERS)
        monkeypatch.setattr(
            SEAM, Hosts({m.Jobs: RUN, request_kind: [*map(bytearray, frames), m.Wanted(wanted=True)]}).dial
        )
        with Cluster(INVENTORY) as cluster:
            outcome = in_time(lambda: CALLS[request_kind](cluster, out))
        # a host may say that it has a bug
        said = any(SshmapError.__name__.encode() in frame for frame in frames)
        assert not isinstance(outcome, SshmapError) or outcome.exit_code != 70 or said, outcome

    answer()
    assert not [file for file in files_below(tmp_path) if out not in file.parents and canary not in file.parents]
