"""Tasks that are committed together: what happens to one of them is no other one's loss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.daemon.commits import MOST, Commits
from sshmap.agent.daemon.outputs import Made
from sshmap.errors import NoSpace
from sshmap.model import JobSpec, KeyName, Maker, RunId, Verb
from sshmap.placement import Ring
from sshmap.store import locks
from sshmap.store.commit import Staged, Store
from sshmap.store.digest import digest_of
from sshmap.store.jobs import Jobs, Run
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import digest_inputs
from sshmap.store.seal import seal
from sshmap.store.tasks import NewTask, Task, Tasks

HOSTS = (("h0", 1.0), ("h1", 1.0))
#: base names pin a key to its host
HERE, THERE = "0_f", "1_f"


class Bench:
    """A host of two, with the worker's side of its commits, and tasks that are claimed."""

    def __init__(self, top: Path, verb: Verb) -> None:
        self.root = Root(top)
        self.root.create()
        self.root.write_cluster(ClusterFile(root_id="r", host="h0", ring=HOSTS, fingerprint=Ring(HOSTS).fingerprint))
        self.store = Store(self.root)
        self.tasks, self.jobs, self.outbox = (
            Tasks(self.store.ledger),
            Jobs(self.store.ledger),
            Outbox(self.store.ledger),
        )
        self.commits = Commits(self.store, self.tasks, self.outbox)
        self.spec = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=verb, command="cat"))
        self.scratch = locks.scratch_dir(self.root)
        self.run = self.jobs.open(self.spec, RunId("1"))

    def begin(self, count: int) -> list[Task]:
        """Store some inputs, and claim a task for each."""
        names = [f"in/0_{number:02}" for number in range(count)]
        for name in names:
            self.put(name, name.encode())
        fanout = "/" if self.spec.maker.verb is Verb.FANOUT else ""
        new = [
            NewTask(
                output=f"out/{name[3:]}{fanout}",
                members=(name,),
                inputs=digest_inputs([(name, digest_of(name.encode()))]),
            )
            for name in names
        ]
        with self.store.ledger.change():
            self.jobs.begin_queueing(self.run)
            self.tasks.enqueue(self.run, new)
            self.jobs.end_queueing(self.run, 0)
        return self.tasks.claim(0, count, fanouts=True)

    def put(self, name: str, content: bytes) -> None:
        """Store a key."""
        item = self.staged(name, content)
        self.store.prepare([item])
        with self.store.committing():
            self.store.commit(item)

    def staged(self, name: str, content: bytes, task: Task | None = None) -> Staged:
        """Write a finished file."""
        path = f"{self.scratch}/{len(os.listdir(self.scratch))}.{os.urandom(3).hex()}"
        with open(path, "xb") as file:
            file.write(content)
            file.flush()
            stamp = seal(file.fileno())
        receipt, members = (task.receipt, task.members) if task else (None, ())
        return Staged(
            path=path, name=KeyName(name), size=len(content), digest=digest_of(content), sealed=stamp, receipt=receipt,
            members=members,
        )  # fmt: skip

    def made(self, task: Task, *bases: str) -> Made:
        """Return what a command made for a task: one file, or those of a fan-out."""
        rows = self.store.keys.rows(task.members)
        names = [task.output + base for base in bases] or [task.output]
        files = tuple(self.staged(name, f"{name} made".encode(), task) for name in names)
        return Made(task, tuple(rows[name] for name in task.members), files, tuple(item.path for item in files))

    def commit(self, *made: Made) -> None:
        """Commit as a worker does."""
        for item in made:
            self.commits.add(item)
        self.commits.flush()

    def states(self) -> dict[str, int]:
        """Return the numbers of tasks by state."""
        return self.jobs.states(Run(seq=self.run.seq, id=self.run.id, epoch=1))[0]

    def outputs(self) -> list[str]:
        """Return the keys below OUTDIR."""
        return list(self.store.keys.names("out/"))

    def attempts(self, task: Task) -> list[tuple[int, str]]:
        """Return number and end of a task's attempts."""
        rows = self.store.ledger.db.execute(
            "SELECT number, outcome FROM attempts WHERE task = ? ORDER BY number", (task.id,)
        )
        return [(number, outcome) for number, outcome in rows]


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(tmp_path / "root", getattr(request, "param", Verb.MAP))
    yield made
    assert os.listdir(made.scratch) == [], "no file is left behind"
    made.store.close()


FANOUT = pytest.mark.parametrize("bench", [Verb.FANOUT], indirect=True)


def test_tasks_that_wait_are_committed_together(bench: Bench) -> None:
    tasks = bench.begin(MOST)
    for task in tasks[:-1]:
        bench.commits.add(bench.made(task))
        assert bench.outputs() == [], "nothing of them is seen before"
    bench.commits.add(bench.made(tasks[-1]))
    assert bench.states() == {"done": MOST}
    assert bench.outputs() == [task.output for task in tasks]
    assert [bench.attempts(task) for task in tasks] == [[(1, "done")]] * MOST


@pytest.mark.parametrize("harm", ["changed", "deleted"])
def test_task_whose_input_was_touched_meanwhile_fails_alone(bench: Bench, harm: str) -> None:
    tasks = bench.begin(4)
    made = [bench.made(task) for task in tasks]
    bench.store.remove(tasks[1].members[0], exact=True)
    if harm == "changed":
        bench.put(tasks[1].members[0], b"other content")
    bench.commit(*made)
    assert bench.states() == {"done": 3, "failed": 1}
    assert bench.outputs() == [task.output for task in tasks if task is not tasks[1]]
    (failed,) = bench.tasks.failed(bench.run, 10)
    assert harm in failed.message


def test_task_whose_output_is_there_with_other_content_fails_alone(bench: Bench) -> None:
    tasks = bench.begin(4)
    bench.put(tasks[2].output, b"copied in")
    bench.commit(*map(bench.made, tasks))
    # those before it were moved when the transaction was rolled back
    bench.commit(*map(bench.made, bench.tasks.claim(0, 10, fanouts=True)))
    assert bench.states() == {"done": 3, "failed": 1}
    assert len(bench.outputs()) == 4
    (failed,) = bench.tasks.failed(bench.run, 10)
    assert failed.kind == "OtherReceipt"


def test_output_that_is_there_already_is_kept(bench: Bench) -> None:
    """As after a worker that died between its commit and the next one: the same receipt, the same content."""
    tasks = bench.begin(2)
    item = bench.staged(tasks[0].output, f"{tasks[0].output} made".encode(), tasks[0])
    bench.store.prepare([item])
    with bench.store.committing():
        bench.store.commit(item)
    bench.commit(*map(bench.made, tasks))
    assert bench.states() == {"done": 2}
    assert len(bench.outputs()) == 2


def test_task_whose_output_was_lost_while_it_waited_runs_again(bench: Bench) -> None:
    """A command of another task may have deleted it."""
    tasks = bench.begin(3)
    made = [bench.made(task) for task in tasks]
    os.unlink(made[1].files[0].path)
    bench.commit(*made)
    assert bench.states()["queued"] >= 1
    (again,) = [task for task in bench.tasks.claim(0, 10, fanouts=True) if task.id == tasks[1].id]
    assert (again.attempt, bench.attempts(again)) == (2, [(1, "returned")])
    assert bench.commits.is_suspect(again), "it waits for no other one"
    bench.commit(bench.made(again))
    assert tasks[1].output in bench.outputs()


def test_attempt_that_does_not_count_any_more_leaves_nothing(bench: Bench) -> None:
    """Its worker was taken for dead, and another one has the task."""
    tasks = bench.begin(3)
    made = [bench.made(task) for task in tasks]
    with bench.store.ledger.change():
        bench.tasks.release([tasks[0].id])
    (other,) = bench.tasks.claim(1, 1, fanouts=True)
    assert (other.id, other.attempt) == (tasks[0].id, 2)
    bench.commit(*made)
    assert bench.states() == {"running": 1, "done": 2}
    assert bench.outputs() == [task.output for task in tasks[1:]]


@pytest.mark.parametrize("step", ["prepare", "finish"])
def test_full_disk_during_a_commit_makes_no_key_and_loses_no_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Files that were moved already are leftovers without rows; their tasks run again."""
    tasks = bench.begin(3)
    made = [bench.made(task) for task in tasks]
    with monkeypatch.context() as patch:
        patch.setattr(Store if step == "prepare" else Tasks, step, refuse)
        bench.commit(*made)
    assert bench.outputs() == []
    assert bench.states() == ({"failed": 3} if step == "prepare" else {"queued": 3})
    bench.commit(*map(bench.made, bench.tasks.claim(0, 10, fanouts=True)))
    assert len(bench.outputs()) == bench.states().get("done", 0)


def refuse(*_: object) -> None:
    """Be a disk that is full."""
    raise NoSpace("no space left")


@FANOUT
def test_files_of_others_are_posted_and_those_of_this_host_are_keys(bench: Bench) -> None:
    tasks = bench.begin(3)
    bench.commit(bench.made(tasks[0], HERE), bench.made(tasks[1], THERE), bench.made(tasks[2], HERE, THERE))
    assert bench.states() == {"done": 1, "sending": 2}
    assert bench.outputs() == [f"{tasks[0].output}{HERE}", f"{tasks[2].output}{HERE}"]
    parcels = bench.outbox.parcels("h1", 10)
    assert [parcel.name for parcel in parcels] == [f"{task.output}{THERE}" for task in tasks[1:]]
    for parcel in parcels:
        assert (bench.root.outbox / str(parcel.id)).read_bytes() == f"{parcel.name} made".encode()
    assert [bench.attempts(task) for task in tasks] == [[(1, "done")], [], []]


@FANOUT
def test_fanout_that_made_nothing_is_done(bench: Bench) -> None:
    (task,) = bench.begin(1)
    bench.commit(Made(task, tuple(bench.store.keys.rows(task.members).values()), ()))
    assert bench.states() == {"done": 1}


@FANOUT
def test_fanout_that_fails_posts_nothing(bench: Bench) -> None:
    """Neither its file for this host nor those for others."""
    tasks = bench.begin(2)
    bench.put(f"{tasks[0].output}{HERE}", b"copied in")
    bench.commit(bench.made(tasks[0], THERE, HERE), bench.made(tasks[1], THERE))
    (again,) = bench.tasks.claim(0, 10, fanouts=True)
    bench.commit(bench.made(again, THERE, HERE))
    assert bench.states() == {"failed": 1, "sending": 1}
    assert [parcel.task for parcel in bench.outbox.parcels("h1", 10)] == [tasks[1].id]


@FANOUT
def test_ring_that_was_told_meanwhile_is_the_one_that_places(bench: Bench) -> None:
    (task,) = bench.begin(1)
    only = (("h0", 1.0),)
    bench.root.write_cluster(ClusterFile(root_id="r", host="h0", ring=only, fingerprint=Ring(only).fingerprint))
    bench.commit(bench.made(task, THERE))
    assert bench.states() == {"done": 1}
    assert bench.outputs() == [f"{task.output}{THERE}"]
