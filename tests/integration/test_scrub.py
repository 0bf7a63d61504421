"""The scrub reads each key once in its time, only while nothing else is to be done, and tells of damage without touching it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.agent.daemon import scrub as scrub_module
from sshmap.agent.daemon.scrub import BUSY, LONGEST, Scrub, Scrubber
from sshmap.agent.host.status import status
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.store.commit import Store
from sshmap.store.damages import Damages, Round, Rounds
from sshmap.store.integrity import Step, read_keys
from sshmap.store.jobs import Jobs
from sshmap.store.layout import ClusterFile
from sshmap.store.tasks import NewTask, Tasks
from tests.conftest import wait_until
from tests.integration import fleet
from tests.integration.damages import flip, rot
from tests.integration.test_verifying import file_of, put, store

__all__ = ["store"]

PERIOD = 1000.0
KEYS = ["b/1", "b/2", "c/d/3"]
SPEC = JobSpec(indir="sm://b/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))


class Bench:
    """A scrub over a store, with a clock that the test moves."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_700_000_000.0
        self.store = store
        self.logged: list[str] = []
        #: keys that were read to their ends
        self.read: list[str] = []
        monkeypatch.setattr(scrub_module, "read_keys", self._read_keys)
        self.scrub = self.begin()

    def begin(self) -> Scrub:
        """Make a scrub as a daemon does that starts."""
        self.scrub = Scrub(self.store, lambda: self.now, self.logged.append)
        return self.scrub

    def _read_keys(self, store: Store, prefix: str, after: str) -> Iterator[Step]:
        for step in read_keys(store, prefix, after, 1000):
            if step.ended:
                self.read.append(step.name)
            yield step

    def step(self) -> float:
        """Have it make a step, and let the time pass that it wants to wait."""
        wait = self.scrub.step(PERIOD)
        assert 0 <= wait <= LONGEST
        self.now += wait
        return wait

    def run(self, seconds: float) -> None:
        """Let some time pass."""
        until = self.now + seconds
        while self.now < until:
            self.step()

    @property
    def round(self) -> Round:
        """The round as it is noted."""
        noted = Rounds(self.store.ledger).newest()
        assert noted
        return noted


@pytest.fixture
def bench(store: Store, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(store, monkeypatch)


def test_each_key_is_read_once_in_its_time(bench: Bench) -> None:
    bench.run(PERIOD / 2)
    assert bench.read == KEYS[:2] or bench.read == KEYS[:1]
    bench.run(PERIOD / 2 - 1)
    assert bench.read == KEYS
    bench.run(2 * PERIOD)
    assert bench.read == 3 * KEYS
    assert bench.logged == []


def test_nothing_is_read_while_tasks_are_unfinished(bench: Bench) -> None:
    jobs, tasks = Jobs(bench.store.ledger), Tasks(bench.store.ledger)
    run = jobs.open(SPEC, RunId("run"))
    with bench.store.ledger.change():
        tasks.enqueue(run, [NewTask(output="out/1", members=("b/1",), inputs=b"i" * 16)])
    assert bench.step() == BUSY
    bench.run(2 * PERIOD)
    assert bench.read == []
    (claimed,) = tasks.claim(0, 1, fanouts=True)
    assert bench.step() == BUSY
    with bench.store.ledger.change():
        tasks.fail(claimed.id, "CommandsFailed", "exit 1", 1)
    bench.run(PERIOD)
    assert bench.read == KEYS


def test_round_goes_on_after_a_restart(bench: Bench) -> None:
    while len(bench.read) < 2:
        bench.step()
    bench.run(60)
    assert (bench.read, bench.round.after) == (KEYS[:2], KEYS[1])
    bench.begin()
    while not bench.round.ended:
        bench.step()
    assert bench.read == KEYS


def test_what_fell_behind_is_made_up_for_a_little_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub_module, "SLICE", 0.0)
    bench.step()
    bench.now += 10 * PERIOD
    pieces = 0
    while not bench.round.ended:
        assert 0 < bench.scrub.step(PERIOD) < LONGEST
        pieces += 1
    assert pieces > 3 * 7000 / 1000
    assert bench.read == KEYS


def test_clock_that_is_set_back_costs_one_more_period_at_most(bench: Bench) -> None:
    bench.run(PERIOD / 2)
    bench.now -= 10 * 366 * 86400
    bench.run(PERIOD)
    assert bench.read[:3] == KEYS


def test_store_without_keys_is_looked_at_once_in_a_round(bench: Bench) -> None:
    bench.store.remove("")
    bench.run(PERIOD / 2)
    put(bench.store, "b/new", b"new")
    bench.run(PERIOD)
    assert bench.read == ["b/new"]


def test_damage_is_told_and_left_as_it_is(bench: Bench) -> None:
    root = bench.store.root
    root.write_cluster(ClusterFile(root_id="1", host="h0", ring=(("h0", 1.0),), fingerprint=""))
    flip(file_of(bench.store, "b/2"))
    file_of(bench.store, "c/d/3").unlink()
    bench.run(PERIOD)
    assert bench.logged[:2] == ["sm://b/2: content does not match its digest", "sm://c/d/3: its file is missing"]
    assert [finding for finding in status(bench.store).findings if "damaged" in finding] == [
        "2 damaged keys, first sm://b/2: sshmap verify sm://b/2 shows what it is now"
    ]
    assert [entry.name for entry in bench.store.keys.scan("")] == KEYS
    assert (file_of(bench.store, "b/2").exists(), root.quarantine.exists()) == (True, False)
    put(bench.store, "b/2", b"content" * 1000)
    bench.store.remove("c/")
    assert not [finding for finding in status(bench.store).findings if "damaged" in finding]


def test_name_in_the_log_is_one_line_of_printable_text(bench: Bench) -> None:
    put(bench.store, "a/\u202eé k", b"x")
    flip(file_of(bench.store, "a/\u202eé k"))
    bench.run(PERIOD)
    assert bench.logged[0].isascii()


def test_damage_that_is_gone_is_not_told_of_after_the_next_round(bench: Bench) -> None:
    flip(file_of(bench.store, "b/1"))
    bench.run(PERIOD)
    assert Damages(bench.store.ledger).count() == 1
    flip(file_of(bench.store, "b/1"))
    bench.run(PERIOD)
    assert Damages(bench.store.ledger).count() == 0


def test_thread_runs_while_it_is_wanted(store: Store) -> None:
    rot(file_of(store, "b/1"))
    scrubber, damages = Scrubber(store.root), Damages(store.ledger)
    scrubber.tell(0.0)
    assert Rounds(store.ledger).newest() is None
    scrubber.tell(0.05)
    wait_until(lambda: damages.count() == 1, what="the damage is not found")
    scrubber.close()
    before = Rounds(store.ledger).newest()
    put(store, "b/1", b"content" * 1000)
    assert Rounds(store.ledger).newest() == before
    scrubber.tell(0.05)
    wait_until(lambda: Rounds(store.ledger).newest() != before, what="it does not go on")
    scrubber.close()


def test_daemon_scrubs_if_the_inventory_says_so(roots: Path) -> None:
    plain = fleet.local_inventory(roots, hosts=1)
    wanted = msgspec.structs.replace(plain, hosts=(msgspec.structs.replace(plain.hosts[0], scrub="1s"),))
    root = fleet.root_of(plain, "h0")
    with Cluster(plain) as cluster:
        cluster.up()
        cluster.put(b"content", "sm://b/k")
        rot(root.data / "b/k")
        assert cluster.health()["h0"].healthy
    with Cluster(wanted) as cluster:
        cluster.health()
        wait_until(lambda: not cluster.health()["h0"].healthy, what="the damage is not found")
        assert "1 damaged keys, first sm://b/k" in cluster.health()["h0"].reasons[0]
        log = root.logs / "daemon.log"
        assert "scrub: sm://b/k: content does not match its digest" in log.read_text(encoding="utf-8")
        assert cluster.exists("sm://b/k")
        assert cluster.verify()["h0"].damaged == 1
        assert cluster.put(b"content", "sm://b/k").repaired == 1
        assert cluster.health()["h0"].healthy
        cluster.down()
