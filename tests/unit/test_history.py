"""Jobs, runs, tasks and attempts of a real ledger: what joins what, what is kept, and that nothing is written over."""

from __future__ import annotations

import time

import msgspec
import pytest

from sshmap.errors import Refused
from sshmap.limits import Limits
from sshmap.model import AttemptEnd, Force, RunId, TaskState, Verb
from sshmap.store import forgetting as forgetting_module
from sshmap.store import memory
from sshmap.store import tasks as tasks_module
from sshmap.store.history import attempts_of
from sshmap.store.task_ends import MAX_LOST, Usage
from sshmap.store.tasks import NewTask
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench


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


def test_small_run_does_not_wait_for_a_large_one(bench: Bench) -> None:
    """Whichever runs with fewer tasks now comes first, and among equal ones that which was claimed longest ago."""
    large = bench.begin("1", other("large"), 100_000)
    for _ in range(6):
        bench.claim()
    small = bench.begin("2", other("small"), 10)
    assert [bench.claim()[0].run for _ in range(10)] == [small.seq] * 6 + [large.seq, small.seq, large.seq, small.seq]
    for task in (bench.claim() for _ in range(8)):
        bench.end(*task)
    assert bench.states(small) == {"running": 8, "done": 2}
    assert bench.states(large)["queued"] > 99_900


def test_claims_of_one_worker_that_commits_between_them_take_turns(bench: Bench) -> None:
    runs = [bench.begin(name, other(name), 6) for name in ("1", "2", "3")]
    claimed = []
    for _ in range(9):
        (task,) = bench.claim()
        claimed.append(task.run)
        bench.end(task)
    assert claimed == [run.seq for run in runs] * 3


def test_several_tasks_are_claimed_of_the_run_that_was_quick_and_one_of_another(bench: Bench) -> None:
    first, second = bench.begin("1", other("1"), 9), bench.begin("2", other("2"), 9)
    assert [task.run for task in bench.tasks.claim(0, 4, fanouts=True, run=first.seq)] == [first.seq] * 4
    assert [task.run for task in bench.tasks.claim(0, 4, fanouts=True, run=first.seq)] == [second.seq]


@pytest.mark.parametrize(("jobs", "slots"), [("3", 3), ("50%", 2), ("10%", 1), ("+2", 6)])
def test_no_more_tasks_of_a_run_are_claimed_than_it_may_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, jobs: str, slots: int
) -> None:
    monkeypatch.setattr(tasks_module, "_CORES", 4)
    run = bench.begin("1", SPEC, 20, Limits(jobs=jobs))
    claimed = [*bench.claim(2), *bench.claim(8, slot=1)]
    assert len(claimed) == slots
    assert not bench.claim()
    bench.end(claimed[0])
    assert len(bench.claim(8)) == 1
    after = bench.begin("2", other("free"), 1)
    assert [task.run for task in bench.claim(8)] == [after.seq]
    assert bench.states(run)["running"] == slots


def test_run_that_wants_more_memory_than_there_is_lets_others_go_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1 << 30]
    monkeypatch.setattr(memory, "available", lambda: free[0])
    bench.begin("1", other("hungry"), 2, Limits(memory_free=2 << 30))
    frugal = bench.begin("2", other("frugal"), 1)
    assert [task.run for task in bench.claim()] == [frugal.seq]
    assert not bench.claim()
    free[0] = 3 << 30
    assert len(bench.claim(2)) == 2


def test_fanouts_wait_while_the_outbox_is_full_and_others_do_not(bench: Bench) -> None:
    bench.begin("1", other("fan", Verb.FANOUT), 1)
    mapped = bench.begin("2", other("map"), 1)
    assert [task.run for task in bench.tasks.claim(0, 2, fanouts=False)] == [mapped.seq]
    assert not bench.tasks.claim(0, 2, fanouts=False)
    assert len(bench.claim()) == 1


def test_failed_task_is_tried_again_when_it_is_due(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.begin("1", SPEC, 2)
    first, second = bench.claim(2)
    now = time.time()
    with bench.ledger.change():
        bench.tasks.try_again(first.id, "CommandsFailed", "exit 5", 5, None, pause=60.0)
    bench.end(second)
    assert bench.tasks.next_due() == pytest.approx(now + 60, abs=5)
    assert (bench.claim(), bench.states(run)) == ([], {"queued": 1, "done": 1})
    monkeypatch.setattr("time.time", lambda: now + 100)
    (again,) = bench.claim(2)
    assert (again.id, again.attempt, again.failures) == (first.id, 2, 1)
    bench.end(again)
    assert bench.attempts() == [(1, "failed"), (2, "done"), (1, "done")]
    assert bench.tasks.next_due() == 0


def test_failed_task_of_a_run_that_is_ending_is_not_tried_again(bench: Bench) -> None:
    run = bench.begin("1", SPEC, 1)
    (task,) = bench.claim()
    bench.endings.halt(run.seq, Force.WAIT)
    with bench.ledger.change():
        bench.tasks.try_again(task.id, "CommandsFailed", "exit 5", 5, None, pause=0.0)
    assert bench.states(run) == {"cancelled": 1}
    assert bench.attempts() == [(1, "failed")]
    assert bench.jobs.is_over(run.seq)


def test_key_that_another_job_makes_is_known(bench: Bench) -> None:
    """Also within the output directory of a fan-out, and a directory in which another's key lies; not what the same job makes."""
    maker = bench.begin("1", other("fan", Verb.FANOUT), 0)
    bench.queue(maker, "x/d/", "x/keys/k", "x/e/")
    asking = bench.open("2", other("asks"))
    held = bench.tasks.being_made(asking, ["x/d/", "x/d/k", "x/keys/k", "x/keys/", "x/keys/l", "x/other", "x/"])
    assert held == dict.fromkeys(["x/d/", "x/d/k", "x/keys/k", "x/keys/", "x/"], maker.seq)
    assert [bench.tasks.making_below(asking, prefix) for prefix in ("x/", "x/d/", "x/dd/", "y/")] == [
        True,
        True,
        False,
        False,
    ]
    same = bench.jobs.open(other("fan", Verb.FANOUT), RunId("1"))
    assert (bench.tasks.being_made(same, ["x/d/"]), bench.tasks.making_below(same, "x/")) == ({}, False)
    for task in bench.claim(3):
        bench.end(task)
    assert (bench.tasks.being_made(asking, ["x/d/", "x/"]), bench.tasks.making_below(asking, "x/")) == ({}, False)


def test_attempts_are_listed_with_what_waits_and_runs_after_what_ended(bench: Bench) -> None:
    run = bench.begin("1", SPEC, 4)
    usage = Usage(began=5.0, ran=2.0, user=1.0, system=0.5, peak=7, received=3, stderr=b"said")
    done, failed = bench.claim(2)
    with bench.ledger.change():
        bench.tasks.finish({done.id: 10}, {done.id: msgspec.structs.replace(usage, made=10)})
        bench.tasks.try_again(failed.id, "CommandsFailed", "exit 5", 5, usage, pause=60.0)
    bench.claim()
    listed = [
        (past.task - done.id, past.attempt, past.outcome, past.state) for past in attempts_of(bench.ledger, run.seq)
    ]
    assert listed == [
        (0, 1, AttemptEnd.DONE, TaskState.DONE), (1, 1, AttemptEnd.FAILED, TaskState.QUEUED), (1, 0, None, TaskState.QUEUED),
        (2, 1, None, TaskState.RUNNING), (3, 0, None, TaskState.QUEUED),
    ]  # fmt: skip
    (past,) = attempts_of(bench.ledger, run.seq, failed=True, stderr=True)
    assert (past.ran, past.user, past.system, past.peak, past.received, past.stderr) == (2.0, 1.0, 0.5, 7, 3, b"said")
    assert (past.exit_code, past.message, past.began) == (5, "exit 5", 5.0)
    assert [past.task for past in attempts_of(bench.ledger, run.seq, subject=failed.output)] == [failed.id] * 2


def test_run_that_was_not_started_becomes_the_one_that_other_hosts_work_on(bench: Bench) -> None:
    """With a second run beside it, each task would be in both."""
    opened = bench.jobs.open(SPEC, RunId("own"))
    assert bench.jobs.open(SPEC, RunId("theirs")).id == opened.id
    theirs = bench.jobs.open(SPEC, RunId("theirs"), agreed=True)
    assert (theirs.seq, theirs.id, theirs.epoch) == (opened.seq, "theirs", 3)
    assert bench.jobs.open(SPEC, RunId("theirs"), agreed=True).epoch == 4


def test_run_that_was_opened_beside_the_one_agreed_on_is_over(bench: Bench) -> None:
    """The one agreed on was over here, and is worked on elsewhere."""
    run = bench.begin("theirs", SPEC, 0)
    assert bench.jobs.is_over(run.seq)
    opened = bench.jobs.open(SPEC, RunId("own"))
    assert bench.jobs.open(SPEC, RunId("theirs"), agreed=True).seq == run.seq
    assert bench.jobs.is_over(opened.seq)
    assert bench.jobs.open(SPEC, RunId("next")).id == "next"


def test_run_that_was_started_keeps_its_id(bench: Bench) -> None:
    opened = bench.jobs.open(SPEC, RunId("own"))
    bench.jobs.begin(opened, 7, "laptop", Limits())
    assert bench.jobs.open(SPEC, RunId("theirs"), agreed=True) == msgspec.structs.replace(opened, epoch=2, number=7)


def test_run_that_is_agreed_on_is_made_where_there_is_none(bench: Bench) -> None:
    assert bench.jobs.open(SPEC, RunId("theirs"), agreed=True).id == "theirs"
