"""The outbox of a host: rows and files go together, whoever carries them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.agent.shuffle import acknowledge, lose, sweep
from sshmap.client import relay
from sshmap.errors import DigestMismatch, HostLost
from sshmap.model import JobId, JobSpec, Maker, TaskState, Verb
from sshmap.protocol.messages import Problem
from sshmap.store.commit import Store
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root
from sshmap.store.queue import NewTask, Parcel, Queue
from sshmap.store.receipts import digest_maker
from sshmap.transport.session import Session
from tests.integration import fleet

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
        queue.enqueue(JOB, run, tasks, replaces=False, since=run)
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
    acknowledge(store, parcels, {})
    lose(store, parcels[0])
    assert (states(store), files(store)) == ({"done": 1}, [])


def test_task_of_a_lost_file_runs_again_and_its_other_files_go(store: Store) -> None:
    parcels = post(store, 3)
    (store.root.outbox / str(parcels[1].id)).unlink()
    lose(store, parcels[1])
    assert (states(store), files(store)) == ({"queued": 1}, [])


def test_files_of_a_task_go_when_one_is_refused(store: Store) -> None:
    parcels = post(store, 3)
    acknowledge(store, parcels[:1], {parcels[0].id: Problem.of(DigestMismatch("damaged"), parcels[0].name)})
    assert (states(store), files(store)) == ({"failed": 1}, [])


def test_sweep_leaves_files_with_a_row(store: Store) -> None:
    parcels = post(store, 2)
    (store.root.outbox / "77").write_bytes(b"left by a killed process")
    sweep(store)
    assert files(store) == sorted(str(parcel.id) for parcel in parcels)


def test_ledger_of_the_first_version_is_brought_up_to_date(store: Store) -> None:
    """Its outbox had no digests: those tasks run again, and their files can be posted."""
    post(store, 2)
    store.ledger.db.execute("ALTER TABLE outbox DROP COLUMN digest")
    store.ledger.db.execute("PRAGMA user_version=1")
    with contextlib.closing(Store(store.root)) as later:
        assert (states(later), Queue(later.ledger).posted()) == ({"queued": 1}, set())
        sweep(later)
        assert files(later) == []
        assert [parcel.digest for parcel in post(later, 2)] == [digest_of(CONTENT)] * 2
    with contextlib.closing(Store(store.root)) as again:
        assert len(files(again)) == 2


def test_relay_that_breaks_is_taken_up_again(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the same run of the command, once for each pair of hosts."""
    broken: list[str] = []
    carry_on = relay.carry_some

    def carry_some(source: Session, target: Session) -> int:
        if source.host not in broken:
            broken.append(source.host)
            raise HostLost("cut off")
        return carry_on(source, target)

    monkeypatch.setattr(relay, "carry_some", carry_some)
    inventory = msgspec.structs.replace(fleet.local_inventory(roots, hosts=2), shuffle="relay")
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(6):
            cluster.put(b"content %d\n" % number, f"sm://in/k{number}")
        result = cluster.fanout(
            "sm://in/", "sm://out/", "for n in 0 1 2 3; do cp $SSHMAP_FILE ${n}_f; echo ${n}_f; done"
        )
        assert (result.done, result.relayed, result.lost) == (6, True, {})
        assert {name: cluster.get(f"sm://out/{name}") for name in ("k0/0_f", "k5/3_f")} == {
            "k0/0_f": b"content 0\n", "k5/3_f": b"content 5\n",
        }  # fmt: skip
        cluster.down()
    assert len(broken) == 2
