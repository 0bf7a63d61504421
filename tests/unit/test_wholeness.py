"""What a fan-out has not brought below a directory, told from the ledger alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.model import Gap, JobSpec, Maker, RunId, Verb
from sshmap.store.commit import Store
from sshmap.store.digest import digest_of
from sshmap.store.jobs import Jobs, Run
from sshmap.store.keys import Row
from sshmap.store.layout import Root
from sshmap.store.receipts import digest_inputs, job_id
from sshmap.store.tasks import NewTask, Tasks
from sshmap.store.wholeness import Wholeness

ONE = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="one"))
OTHER = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="other"))
DIGEST = digest_of(b"x")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A host with two inputs."""
    root = Root(tmp_path / "root")
    root.create()
    with contextlib.closing(Store(root)) as opened:
        with opened.ledger.change():
            for name in ("in/a", "in/b"):
                opened.keys.insert(Row(name, 1, DIGEST, 1, None))
        yield opened


def begin(store: Store, spec: JobSpec, *bases: str) -> Run:
    """Open a job and queue its tasks for some inputs."""
    run = Jobs(store.ledger).open(spec, RunId(f"{spec.maker.command}{store.ledger.db.total_changes}"))
    with store.ledger.change():
        inputs = [(f"in/{base}", digest_inputs([(f"in/{base}", DIGEST)])) for base in bases]
        tasks = [NewTask(output=f"out/{name[3:]}/", members=(name,), inputs=digest) for name, digest in inputs]
        Tasks(store.ledger).enqueue(run, tasks)
    return run


def fail_all(store: Store) -> None:
    """Have a worker claim all tasks, whose commands fail."""
    tasks = Tasks(store.ledger)
    claimed = tasks.claim(0, 100, fanouts=True)
    with store.ledger.change():
        for task in claimed:
            tasks.fail(task.id, "CommandsFailed", "exit 1", 1)


def gaps(store: Store, prefix: str = "out/") -> list[Gap]:
    return Wholeness(store.ledger, prefix).gaps()


def test_host_without_fanouts_misses_nothing(store: Store) -> None:
    assert gaps(store) == []


def test_queued_tasks_are_unfinished_until_they_have_failed(store: Store) -> None:
    begin(store, ONE, "a", "b")
    assert gaps(store) == [Gap(job_id(ONE), 0, 2, 0)]
    fail_all(store)
    assert gaps(store) == [Gap(job_id(ONE), 2, 0, 0)]


@pytest.mark.parametrize(
    ("prefix", "failed"),
    [("out/", 2), ("out/a/", 1), ("out/a", 1), ("o", 2), ("out/c/", 0), ("other/", 0), ("out2/", 0)],
)
def test_only_what_lies_below_the_directory_counts(store: Store, prefix: str, failed: int) -> None:
    begin(store, ONE, "a", "b")
    fail_all(store)
    assert [gap.failed for gap in gaps(store, prefix)] == [failed] * bool(failed)


def test_later_run_of_an_input_counts_alone(store: Store) -> None:
    begin(store, ONE, "a", "b")
    fail_all(store)
    begin(store, OTHER, "b")
    assert sorted(gaps(store), key=lambda gap: gap.failed) == [
        Gap(job_id(OTHER), 0, 1, 0), Gap(job_id(ONE), 1, 0, 0),
    ]  # fmt: skip
    fail_all(store)
    assert {gap.failed for gap in gaps(store)} == {1}


def test_input_that_was_deleted_counts_no_longer(store: Store) -> None:
    begin(store, ONE, "a", "b")
    fail_all(store)
    store.remove("in/a", exact=True)
    assert gaps(store) == [Gap(job_id(ONE), 1, 0, 0)]


@pytest.mark.parametrize(("prefix", "failed"), [("out/", 0), ("out", 0), ("out/a", 1), ("out/a/", 1), ("out/a/x", 2)])
def test_what_was_deleted_counts_no_longer_until_it_is_made_anew(store: Store, prefix: str, failed: int) -> None:
    begin(store, ONE, "a", "b")
    fail_all(store)
    store.remove(prefix)
    assert sum(gap.failed for gap in gaps(store)) == failed
    begin(store, OTHER, "a", "b")
    fail_all(store)
    assert gaps(store) == [Gap(job_id(OTHER), 2, 0, 0)]


def test_notes_of_removals_end_with_the_history_that_they_are_about(store: Store) -> None:
    begin(store, ONE, "a")
    fail_all(store)
    for number in range(5):
        store.remove(f"gone{number}/")
    assert store.ledger.db.execute("SELECT count(*) FROM removals").fetchone() == (5,)
    begin(store, OTHER, "a")
    with store.ledger.change() as db:
        db.execute("DELETE FROM runs WHERE seq = 1")
    store.remove("last/")
    assert store.ledger.db.execute("SELECT prefix FROM removals").fetchall() == [("last/",)]
