"""When a run that only waits for peers counts as over: a peer that comes and goes is no progress."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.session import following as module
from sshmap.agent.session.following import Following
from sshmap.client.relay import _settle
from sshmap.errors import HostLost, HostNotReady, NoSpace
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.protocol import messages as m
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.space import waiting_for_space
from sshmap.store.tasks import NewTask, Tasks

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="ls"))
LIMIT = 0.5


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    root = Root(tmp_path / "root")
    root.create()
    with contextlib.closing(Store(root)) as opened:
        yield opened


def follow(store: Store, monkeypatch: pytest.MonkeyPatch, seen: Iterator[m.Progress]) -> m.RunEnded:
    """Follow a run whose progress is told by an iterator, one value at each look; an error after five times the limit."""
    monkeypatch.setattr(module, "STUCK_LIMIT", LIMIT)
    monkeypatch.setattr(module, "_DAEMON_LOOK", math.inf)
    run = Jobs(store.ledger).open(SPEC, RunId("run"))
    watched = Following(store, run, SPEC.maker.verb, lambda: 0, Limits())
    versions = itertools.count()
    monkeypatch.setattr(store.ledger, "data_version", lambda: next(versions))
    monkeypatch.setattr(watched, "progress", lambda: next(seen))
    began = time.monotonic()
    return watched.follow(lambda _: None, lambda seconds: time.monotonic() - began > 5 * LIMIT)


def test_peer_that_comes_and_goes_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = itertools.cycle([m.Progress(sending=2, stuck={"h1": 2}), m.Progress(sending=2)])
    assert follow(store, monkeypatch, stuck).stuck in ({"h1": 2}, {})


def test_peer_that_takes_files_is_not_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    moving = (m.Progress(sending=1, done=number, stuck={"h1": 1}) for number in itertools.count())
    with pytest.raises(HostLost, match="the client left"):
        follow(store, monkeypatch, moving)


@pytest.mark.parametrize("waiting", [(), (0,), (0, 1)], ids=["none", "one", "all"])
def test_workers_that_cannot_give_their_tasks_back_wait_for_space(
    store: Store, monkeypatch: pytest.MonkeyPatch, waiting: tuple[int, ...]
) -> None:
    """A disk without room for the ledger itself: their tasks stand as running, and no command does run."""
    monkeypatch.setattr(module, "_SPACE_LIMIT", 0.1)
    store.root.write_cluster(ClusterFile(root_id="1", host="h0", ring=(("h0", 1.0),), fingerprint=""))
    tasks, run = Tasks(store.ledger), Jobs(store.ledger).open(SPEC, RunId("run"))
    with store.ledger.change():
        tasks.enqueue(run, [NewTask(output=f"out/k{n}/", members=(f"in/k{n}",), inputs=b"") for n in range(3)])
    for slot in (0, 1):
        assert len(tasks.claim(slot, 1, fanouts=True)) == 1
    held = [locks.hold(store.root, waiting_for_space(slot), "") for slot in waiting]
    try:
        with pytest.raises(NoSpace if len(waiting) == 2 else HostLost):
            follow(store, monkeypatch, itertools.repeat(m.Progress(queued=1, running=2)))
    finally:
        for path in held:
            locks.let_go(path)


class Answering:
    """A session that answers as it is told."""

    def __init__(self, host: str, results: list[m.PutResult]) -> None:
        self.host, self._results = host, results
        self.told: list[m.Message] = []

    def sync(self) -> list[m.PutResult]:
        """Return what became of the files."""
        return self._results

    def ask(self, request: m.Message, _: object) -> m.Served:
        """Note what is told."""
        self.told.append(request)
        return m.Served()


def test_relaying_to_a_peer_that_was_not_told_of_the_job_fails() -> None:
    untold = m.PutResult("o/k", fresh=False, problem=m.Problem(kind=HostNotReady.__name__, message="not told"))
    source, target = Answering("h0", []), Answering("h1", [untold, untold])
    with pytest.raises(HostNotReady, match="not told"):
        _settle(source, target, [1, 2])  # type: ignore[arg-type]
    both = Answering("h1", [m.PutResult("o/j"), untold])
    assert _settle(source, both, [3, 4]) == 1  # type: ignore[arg-type]
    assert [request.ids for request in source.told if isinstance(request, m.Delivered)] == [(), (3,)]
