"""The outbox of a host: rows and files go together, whoever carries them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.agent.shuffle import acknowledge, lose, sweep
from sshmap.client import relay
from sshmap.errors import DigestMismatch, HostLost
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.protocol.messages import Problem
from sshmap.store.commit import Store
from sshmap.store.digest import digest_of
from sshmap.store.jobs import Jobs, Run
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox, Parcel
from sshmap.store.receipts import digest_inputs
from sshmap.store.tasks import NewTask, Task, Tasks
from sshmap.transport.session import Session
from tests.integration import fleet

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="ls"))
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
    run = begin(store)
    (task,) = Tasks(store.ledger).claim(0, 1, fanouts=True)
    assert task.run == run.seq
    return send(store, task, count)


def begin(store: Store, content: bytes = b"k") -> Run:
    """Open the job, and queue its one task for an input of some content."""
    run = Jobs(store.ledger).open(SPEC, RunId("run"))
    with store.ledger.change():
        tasks = [NewTask(output="out/k/", members=("in/k",), inputs=digest_inputs([("in/k", digest_of(content))]))]
        Tasks(store.ledger).enqueue(run, tasks)
    return run


def send(store: Store, task: Task, count: int) -> list[Parcel]:
    """Commit a task with some files that all wait for a peer; return them."""
    outbox = Outbox(store.ledger)
    before = len(outbox.parcels("h1", 1000))
    with store.ledger.change():
        for number in range(count):
            name = f"out/k/{number}"
            posted = outbox.post(task.id, "h1", name, len(CONTENT), digest_of(CONTENT), task.receipt, replaces=False)
            (store.root.outbox / str(posted)).write_bytes(CONTENT)
        Tasks(store.ledger).send({task.id: 0})
    return outbox.parcels("h1", 1000)[before:]


def states(store: Store) -> dict[str, int]:
    return Jobs(store.ledger).states(Run(seq=1, id=RunId("run"), epoch=1))[0]


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


def test_files_of_a_changed_input_leave_the_outbox_before_the_new_ones_come(store: Store) -> None:
    """Else they would arrive first, and the new ones be refused as other work."""
    former = post(store, 2)
    begin(store, b"changed")
    assert (states(store), Outbox(store.ledger).posted()) == ({"queued": 1}, set())
    (task,) = Tasks(store.ledger).claim(0, 1, fanouts=True)
    fresh = send(store, task, 1)
    # the courier had some of the former under way
    acknowledge(store, former, {former[1].id: Problem.of(DigestMismatch("damaged"), former[1].name)})
    assert (states(store), Outbox(store.ledger).parcels("h1", 10)) == ({"sending": 1}, fresh)
    assert files(store) == [str(fresh[0].id)]
    acknowledge(store, fresh, {})
    assert (states(store), files(store)) == ({"done": 1}, [])


def test_size_of_the_outbox_is_that_of_its_files(store: Store) -> None:
    parcels = post(store, 3)
    assert Outbox(store.ledger).size() == 3 * len(CONTENT)
    acknowledge(store, parcels[:1], {})
    assert Outbox(store.ledger).size() == 2 * len(CONTENT)
    lose(store, parcels[1])
    assert Outbox(store.ledger).size() == 0


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
