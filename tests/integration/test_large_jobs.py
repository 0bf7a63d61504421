"""Jobs of many tasks are queued in small steps: work begins at once, others get their turn, and what breaks off is completed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.daemon.worker import Worker
from sshmap.agent.session import planning as planning_module
from sshmap.agent.session.planning import Planning
from sshmap.agent.session.server import serve
from sshmap.agent.shuffle import FULL_OUTBOX, Holdings
from sshmap.errors import HostLost
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.protocol.framing import FrameWriter
from sshmap.protocol.messages import Counted, Hello, Message, Open, Opened, Plan, Planned, Progress, Start
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs, Run
from sshmap.store.keys import Row
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.outbox import Outbox
from sshmap.store.tasks import Task, Tasks
from sshmap.transport import memory
from sshmap.transport.session import Session
from tests.conftest import wait_until

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))
KEYS = 5000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The store of a host with many small keys."""
    root = Root(tmp_path / "root")
    root.create()
    opened = Store(root)
    with opened.ledger.change():
        for number in range(KEYS):
            opened.keys.insert(Row(f"in/d{number % 10}/k{number}", 1, b"d" * 16, 1_700_000_000, None))
    yield opened
    opened.close()


def planned(store: Store, run: str) -> Planning:
    """Open the job as a client does, and plan it."""
    return Planning(store, SPEC, Jobs(store.ledger).open(SPEC, RunId(run)), Holdings())


def states(store: Store, run: Run) -> dict[str, int]:
    return Jobs(store.ledger).states(run)[0]


def end_all(store: Store) -> list[Task]:
    """End all tasks that are queued, as workers do but without their outputs."""
    tasks = Tasks(store.ledger).claim(0, KEYS, fanouts=True)
    with store.ledger.change():
        Tasks(store.ledger).finish({task.id: 1 for task in tasks})
    return tasks


def test_first_tasks_can_be_claimed_while_the_others_are_queued(store: Store) -> None:
    planning = planned(store, "1")
    next(planning.queue())
    assert 0 < len(end_all(store)) <= 200
    assert Jobs(store.ledger).open(SPEC, RunId("2")).seq == planning.run.seq, "a run is not over before all is queued"


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_run_whose_session_was_killed_while_it_queued_is_completed_by_the_same_command(
    store: Store, steps: int
) -> None:
    """Each task is there once, and those that ended meanwhile are not queued again unless their outputs are missing."""
    queueing = planned(store, "1").queue()
    for _ in range(steps):
        next(queueing)
    queueing.close()
    claimed = Tasks(store.ledger).claim(0, 10, fanouts=True)
    assert len(claimed) == (10 if steps else 0)
    again = planned(store, "2")
    assert again.plan().fresh == KEYS
    list(again.queue())
    assert sum(states(store, again.run).values()) == KEYS
    with store.ledger.change():
        assert Tasks(store.ledger).owned(claimed) == claimed
    assert len(end_all(store)) == KEYS - len(claimed)


@pytest.mark.parametrize("indir", ["sm://in/", "sm://in/d3/", "sm://in/*/k*7", "sm://nothing/"])
@pytest.mark.parametrize("verb", Verb)
def test_job_of_which_nothing_is_there_is_counted_as_it_would_be_judged(
    store: Store, monkeypatch: pytest.MonkeyPatch, verb: Verb, indir: str
) -> None:
    spec = JobSpec(indir=indir, outdir="sm://out/", maker=Maker(verb=verb, command="cat"))
    planning = Planning(store, spec, Jobs(store.ledger).open(spec, RunId("1")), Holdings())
    counted = planning.plan()
    monkeypatch.setattr(Planning, "_counted_fresh", lambda _: None)
    assert counted == planning.plan()


@pytest.mark.parametrize("there", ["out/d1/k1", "out/x"])
def test_job_of_which_something_is_there_is_judged(store: Store, there: str) -> None:
    """By what the key is: here it was copied in, and stands in the way only where the job would write."""
    with store.ledger.change():
        store.keys.insert(Row(there, 1, b"d" * 16, 1_700_000_000, None))
    plan = planned(store, "1").plan()
    assert (plan.fresh, plan.refused) == ((KEYS - 1, 1) if there == "out/d1/k1" else (KEYS, 0))


def test_fanout_that_made_nothing_counts_as_done(store: Store) -> None:
    """No output of it is there, but its record is."""
    spec = JobSpec(indir="sm://in/d3/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="cat"))
    planning = Planning(store, spec, Jobs(store.ledger).open(spec, RunId("1")), Holdings())
    fresh = planning.plan().fresh
    assert fresh == KEYS // 10
    list(planning.queue())
    tasks = Tasks(store.ledger).claim(0, 1, fanouts=True)
    with store.ledger.change():
        Outbox(store.ledger).record_fanout(tasks[0].output, tasks[0].members[0], tasks[0].receipt, 0, bytes(16))
        Tasks(store.ledger).finish({tasks[0].id: 0})
    again = Planning(store, spec, Jobs(store.ledger).open(spec, RunId("2")), Holdings()).plan()
    assert (again.fresh, again.kept) == (fresh - 1, 1)


def test_others_get_their_turn_while_a_job_is_queued(store: Store) -> None:
    waits: list[float] = []
    over = threading.Event()

    def commit_now_and_then() -> None:
        with contextlib.closing(Store(store.root)) as other:
            while not over.wait(0.005):
                began = time.monotonic()
                with other.ledger.change():
                    other.keys.insert(Row("other/k", 1, b"d" * 16, 1_700_000_000, None))
                waits.append(time.monotonic() - began)

    thread = threading.Thread(target=commit_now_and_then)
    thread.start()
    try:
        list(planned(store, "1").queue())
    finally:
        over.set()
        thread.join()
    assert len(waits) > 5
    assert max(waits) < 0.5


def test_no_transaction_takes_in_more_than_a_step(store: Store) -> None:
    planning = planned(store, "1")
    sizes = [sum(states(store, planning.run).values()) for _ in planning.queue()]
    steps = [after - before for before, after in zip([0, *sizes], sizes, strict=False)]
    assert steps == [
        planning_module._FIRST,
        *[planning_module._STEP] * 4,
        KEYS - 4 * planning_module._STEP - planning_module._FIRST,
    ]


def test_job_is_queued_to_its_end_when_its_client_leaves_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was submitted, and goes on."""
    say = FrameWriter.message

    def break_off(writer: FrameWriter, message: Message, *, flush: bool = True) -> None:
        if isinstance(message, Progress):
            raise HostLost("the client left")
        say(writer, message, flush=flush)

    monkeypatch.setattr(FrameWriter, "message", break_off)
    assert locks.try_lock(store.root, "daemon")
    hello = Hello(host="h0", ring=(("h0", 1.0),))
    with contextlib.closing(Session(memory.connect(lambda channel: serve(store.root, channel)), hello)) as session:
        run = session.ask(Open(job=SPEC, run="1"), Opened)
        session.writer.message(Plan(job=SPEC, run=run.run, epoch=run.epoch))
        assert session.ask(Counted(), Planned).fresh == KEYS
        session.writer.message(Start(job=SPEC, run=run.run, epoch=run.epoch))
        session.writer.message(Counted())
        wait_until(lambda: states(store, Run(seq=1, id=RunId("1"), epoch=1)) == {"queued": KEYS})


def test_outbox_that_was_full_is_looked_at_again_as_soon_as_somebody_wakes_the_worker(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes room in it wakes the workers once; that it is not full may be known for a moment."""
    store.root.write_cluster(ClusterFile(root_id="r", host="h0", ring=(("h0", 1.0),), fingerprint="f"))
    worker = Worker(store.root, 0)
    sizes = iter([FULL_OUTBOX, 0])
    monkeypatch.setattr(worker.outbox, "size", lambda: next(sizes))
    assert worker._is_outbox_full()  # what a claim asks
    assert not worker._is_outbox_full()
    assert not worker._is_outbox_full(), "not looked at a third time"
    worker.store.close()
