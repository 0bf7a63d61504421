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
from sshmap.errors import HostLost, HostNotReady
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.protocol import messages as m
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs
from sshmap.store.layout import Root

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
