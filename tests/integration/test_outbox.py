"""The outbox of a host: rows and files go together, whoever carries them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.outgoing import lose, settle, sweep
from sshmap.errors import DigestMismatch
from sshmap.model import JobId, JobSpec, Maker, TaskState, Verb
from sshmap.protocol.messages import Problem
from sshmap.store.commit import Store
from sshmap.store.digest import digest_maker, digest_of
from sshmap.store.layout import Root
from sshmap.store.queue import NewTask, Parcel, Queue

JOB = JobId("job")
CONTENT = b"content"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    root = Root(tmp_path / "root")
    root.create()
    opened = Store(root)
    yield opened
    opened.close()


def post(store: Store, count: int) -> list[Parcel]:
    """Have one fan-out task whose files all wait for a peer; return them."""
    queue = Queue(store.ledger)
    maker = Maker(verb=Verb.FANOUT, command="ls")
    with store.ledger.change():
        store.keys.remember(maker)
        spec = JobSpec(indir="sm://in/", outdir="sm://out/", maker=maker)
        run = queue.open_job(JOB, spec, digest_maker(maker))
        tasks = [NewTask(output="out/k/", members=("in/k",), inputs=digest_of(b"k"))]
        queue.enqueue(JOB, run, tasks, replaces=False, attach=False)
    (task,) = queue.claim(0, 1, fanouts=True)
    with store.ledger.change():
        for number in range(count):
            name = f"out/k/{number}"
            posted = queue.post(task.id, "h1", name, len(CONTENT), digest_of(CONTENT), task.receipt, replaces=False)
            (store.root.outbox / str(posted)).write_bytes(CONTENT)
        queue.finish(task.id, TaskState.SENDING, 0)
    return queue.parcels("h1", 0, count)


def states(store: Store) -> dict[str, int]:
    return Queue(store.ledger).states(JOB, 1)[0]


def files(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.outbox.iterdir())


def test_file_that_somebody_else_has_brought_is_not_lost(store: Store) -> None:
    parcels = post(store, 2)
    settle(store, parcels, {})
    lose(store, parcels[0])
    assert (states(store), files(store)) == ({"done": 1}, [])


def test_task_of_a_lost_file_runs_again_and_its_other_files_go(store: Store) -> None:
    parcels = post(store, 3)
    (store.root.outbox / str(parcels[1].id)).unlink()
    lose(store, parcels[1])
    assert (states(store), files(store)) == ({"queued": 1}, [])


def test_files_of_a_task_go_when_one_is_refused(store: Store) -> None:
    parcels = post(store, 3)
    settle(store, parcels[:1], {parcels[0].id: Problem.of(DigestMismatch("damaged"), parcels[0].name)})
    assert (states(store), files(store)) == ({"failed": 1}, [])


def test_sweep_leaves_files_with_a_row(store: Store) -> None:
    parcels = post(store, 2)
    (store.root.outbox / "77").write_bytes(b"left by a killed process")
    sweep(store)
    assert files(store) == sorted(str(parcel.id) for parcel in parcels)
