"""Jobs, runs, tasks and attempts of a real ledger: what joins what, what is kept, and that nothing is written over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap.errors import Refused
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.store import forgetting as forgetting_module
from sshmap.store.commit import Store
from sshmap.store.forgetting import Forgetting
from sshmap.store.jobs import Jobs, Run
from sshmap.store.layout import Root
from sshmap.store.task_ends import MAX_LOST
from sshmap.store.tasks import NewTask, Task, Tasks

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))


class Bench:
    """A ledger with what works on it."""

    def __init__(self, root: Root) -> None:
        self.store = Store(root)
        self.ledger = self.store.ledger
        self.jobs, self.tasks = Jobs(self.ledger), Tasks(self.ledger)
        self.forgetting = Forgetting(self.store)

    def open(self, name: str = "1", spec: JobSpec = SPEC) -> Run:
        """Open the job as a client does."""
        run = self.jobs.open(spec, RunId(name))
        self.jobs.begin(run, run.seq, "user@machine", Limits())
        return run

    def queue(self, run: Run, *outputs: str, inputs: bytes = b"i") -> None:
        """Queue tasks with these outputs."""
        with self.ledger.change():
            self.jobs.begin_queueing(run)
            self.tasks.enqueue(run, [NewTask(output=output, members=("in/x",), inputs=inputs) for output in outputs])
            self.jobs.end_queueing(run, 0)

    def claim(self, count: int = 1, slot: int = 0) -> list[Task]:
        """Claim tasks."""
        return self.tasks.claim(slot, count, fanouts=True)

    def end(self, task: Task, *, fails: bool = False) -> None:
        """End a task as a worker does."""
        with self.ledger.change():
            if fails:
                self.tasks.fail(task.id, "CommandsFailed", "exit 1", 1)
            else:
                self.tasks.finish({task.id: 10})

    def states(self, run: Run) -> dict[str, int]:
        """Return the numbers of tasks by state."""
        return self.jobs.states(run)[0]

    def attempts(self) -> list[tuple[int, str]]:
        """Return numbers and outcomes of all attempts."""
        return self.ledger.db.execute("SELECT number, outcome FROM attempts ORDER BY task, number").fetchall()

    def counted(self, run: Run) -> dict[str, int]:
        """Count a run's tasks by state, one by one."""
        rows = self.ledger.db.execute("SELECT state, count(*) FROM tasks WHERE run = ? GROUP BY state", (run.seq,))
        return dict(rows)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = Root(tmp_path / "root")
    root.create()
    bench = Bench(root)
    yield bench
    bench.store.close()


def test_run_that_is_over_is_not_written_over(bench: Bench) -> None:
    first = bench.open("1")
    bench.queue(first, "out/a", "out/b")
    for task in bench.claim(2):
        bench.end(task, fails=task.output == "out/b")
    second = bench.open("2")
    assert (second.seq, second.id, second.epoch) == (first.seq + 1, "2", 1)
    bench.queue(second, "out/b")
    bench.end(*bench.claim())
    assert bench.states(second) == {"done": 1}
    assert bench.states(first) == {"done": 1, "failed": 1}
    assert [task.message for task in bench.tasks.failed(first, 10)] == ["exit 1"]


def test_job_typed_again_joins_its_run_as_long_as_that_is_not_over(bench: Bench) -> None:
    first = bench.open("1")
    bench.queue(first, "out/a", "out/b", "out/c")
    done, failed = bench.claim(2)
    bench.end(done)
    bench.end(failed, fails=True)
    second = bench.open("2")
    assert (second.seq, second.id, second.epoch) == (first.seq, "1", 2)
    assert bench.states(second) == {"queued": 1}
    assert bench.tasks.inputs_in_run(second, ["out/a", "out/b", "out/c"]) == {"out/c": b"i"}
    bench.queue(second, failed.output, "out/c")
    assert bench.states(second) == {"queued": 2}
    assert bench.states(first) == {"done": 1, "queued": 2}
    for task in bench.claim(2):
        bench.end(task)
    assert bench.states(second) == {"done": 2}
    assert bench.attempts() == [(1, "done"), (1, "failed"), (2, "done"), (1, "done")]
    assert bench.open("3").seq == first.seq + 1


def test_what_ended_since_a_client_came_is_not_queued_again(bench: Bench) -> None:
    run = bench.open("1")
    bench.queue(run, "out/a", "out/b")
    done, failed = bench.claim(2)
    bench.end(done)
    bench.end(failed, fails=True)
    bench.queue(bench.jobs.find(RunId("1"), run.epoch), "out/a", "out/b")
    assert bench.states(run) == {"done": 1, "failed": 1}
    assert not bench.claim()


def test_opening_that_is_asked_for_twice_is_one_run(bench: Bench) -> None:
    """The first answer was lost; the run may even have been joined, and be over."""
    first = bench.open("1")
    assert bench.open("1").seq == first.seq
    bench.queue(bench.open("2"), "out/a")
    bench.end(*bench.claim())
    assert bench.open("1").seq == first.seq


def test_run_that_was_never_started_is_joined(bench: Bench) -> None:
    assert bench.open("1").seq == bench.open("2").seq


def test_run_whose_queueing_broke_off_is_joined_also_when_nothing_of_it_is_left_to_do(bench: Bench) -> None:
    run = bench.open("1")
    with bench.ledger.change():
        bench.jobs.begin_queueing(run)
        bench.tasks.enqueue(run, [NewTask(output="out/a", members=("in/a",), inputs=b"i")])
    bench.end(*bench.claim())
    assert bench.open("2").seq == run.seq


def test_run_without_tasks_is_over_when_it_is_queued(bench: Bench) -> None:
    run = bench.open("1")
    bench.queue(run)
    assert bench.open("2").seq == run.seq + 1


def test_run_that_is_forgotten_is_named(bench: Bench) -> None:
    with pytest.raises(Refused, match="knows no run 7"):
        bench.jobs.find(RunId("7"), 1)


def test_replace_belongs_to_the_run(bench: Bench) -> None:
    run = bench.open("1")
    assert bench.open("2", msgspec.structs.replace(SPEC, replace=True)).seq == run.seq
    bench.queue(run, "out/a")
    assert bench.claim()[0].replaces


def test_attempt_that_was_given_back_keeps_its_number(bench: Bench) -> None:
    bench.queue(bench.open(), "out/a")
    claimed = bench.claim()
    with bench.ledger.change():
        bench.tasks.release([task.id for task in claimed])
    bench.claim()
    bench.tasks.give_back(0)
    (task,) = bench.claim()
    bench.end(task)
    assert task.attempt == 3
    assert bench.attempts() == [(1, "returned"), (2, "returned"), (3, "done")]


def test_task_that_keeps_killing_its_worker_is_given_up(bench: Bench) -> None:
    """Attempts that were given back do not count."""
    run = bench.open()
    bench.queue(run, "out/a")
    bench.claim()
    bench.tasks.give_back(0)
    for number in range(MAX_LOST):
        assert bench.states(run) == {"queued": 1}, number
        bench.claim()
        bench.tasks.requeue([0])
    (failed,) = bench.tasks.failed(run, 10)
    assert failed.message == f"its worker died {MAX_LOST} times while it ran"
    assert [outcome for _, outcome in bench.attempts()] == ["returned", *["lost"] * (MAX_LOST - 1), "failed"]


@pytest.mark.parametrize("state", ["queued", "running", "done", "failed"])
def test_task_whose_input_changed_is_queued_again(bench: Bench, state: str) -> None:
    first = bench.open("1")
    bench.queue(first, "out/a", "out/other")
    former = bench.claim() if state != "queued" else []
    if state in ("done", "failed"):
        bench.end(former[0], fails=state == "failed")
    second = bench.open("2")
    bench.queue(second, "out/a", inputs=b"changed")
    assert bench.states(second)["queued"] == 2
    with bench.ledger.change():
        assert not bench.tasks.owned(former)
    (task,) = bench.claim()
    assert (task.receipt.inputs, task.attempt) == (b"changed", len(former) + 1)


def test_numbers_of_a_run_are_those_of_its_tasks(bench: Bench) -> None:
    run = bench.open()
    bench.queue(run, *(f"out/{number}" for number in range(20)))
    tasks = bench.claim(9)
    for number, task in enumerate(tasks[:6]):
        bench.end(task, fails=number % 3 == 0)
    bench.tasks.requeue([0])
    bench.claim(2, slot=1)
    assert bench.states(run) == bench.counted(run) == {"queued": 12, "running": 2, "done": 4, "failed": 2}
    assert bench.jobs.states(run)[1] == 40
    assert bench.jobs.active() == {"queued": 12, "running": 2}


def test_old_runs_are_forgotten_by_their_order_whatever_the_clock(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never one with something left to do, nor the one just opened when the clock stepped back; in steps."""
    monkeypatch.setattr(forgetting_module, "KEEP_RUNS", 2)
    monkeypatch.setattr(forgetting_module, "_STEP", 2)
    clock = iter(range(10_000, 0, -10))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    specs = [msgspec.structs.replace(SPEC, outdir=f"sm://out{number}/") for number in range(5)]
    runs = [bench.open(str(number), spec) for number, spec in enumerate(specs)]
    for run in runs[:4]:
        bench.queue(run, "out/a", "out/b", "out/c")
        for task in bench.claim(3):
            if run is not runs[1] or task.output != "out/c":
                bench.end(task)
    steps = 0
    while bench.forgetting.step():
        steps += 1
    assert [row.id for row in bench.jobs.runs()] == ["4", "3", "1"]
    assert steps == 4
    counts = [
        bench.ledger.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("tasks", "attempts", "jobs")
    ]
    assert counts == [6, 5, 3]


def test_run_is_forgotten_after_its_age(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    old = bench.open("old")
    bench.queue(old, "out/a")
    for task in bench.claim():
        bench.end(task)
    now += 100
    bench.queue(bench.open("new", msgspec.structs.replace(SPEC, outdir="sm://new/")), "new/a")
    bench.ledger.db.execute("UPDATE runs SET ended = ? WHERE seq = ?", (now - 100, old.seq))
    assert not bench.forgetting.step(age=101)
    while bench.forgetting.step(age=99):
        continue
    assert [row.id for row in bench.jobs.runs()] == ["new"]
    assert (bench.forgetting.freed.runs, bench.forgetting.freed.attempts) == (1, 1)


@pytest.mark.parametrize("limit", ["KEEP_ATTEMPTS", "KEEP_SIZE"])
def test_full_history_forgets_its_oldest_runs_but_not_the_newest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(forgetting_module, limit, 3)
    for number in range(4):
        bench.queue(bench.open(str(number), msgspec.structs.replace(SPEC, outdir=f"sm://o{number}/")), "a", "b")
        for task in bench.claim(2):
            bench.end(task, fails=True)
    while bench.forgetting.step():
        continue
    assert [row.id for row in bench.jobs.runs()] == ["3"]
    counted = bench.ledger.db.execute("SELECT count(*), sum(length(message)) FROM attempts").fetchone()
    kept = dict(bench.ledger.db.execute("SELECT name, value FROM meta WHERE name IN ('attempts', 'said')"))
    assert (kept["attempts"], kept["said"]) == counted == (2, 12)


def test_runs_that_never_began_are_forgotten_but_the_newest(bench: Bench) -> None:
    for number in range(60):
        bench.jobs.open(msgspec.structs.replace(SPEC, outdir=f"sm://o{number}/"), RunId(str(number)))
    while bench.forgetting.step():
        continue
    assert [row.id for row in bench.jobs.runs()] == [str(number) for number in range(59, 9, -1)]


def test_number_of_a_forgotten_run_never_comes_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting_module, "KEEP_RUNS", 0)
    run = bench.open("1")
    bench.queue(run)
    while bench.forgetting.step():
        continue
    assert bench.open("2").seq == run.seq + 1
