"""Runs that are ended before they are done, and that counts stay true whatever happens to tasks."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshmap.errors import Refused
from sshmap.limits import Limits
from sshmap.model import Ending, Force, Owed, Receipt, RunId, Verb
from sshmap.store import endings as module
from sshmap.store.jobs import Run
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox
from sshmap.store.tasks import NewTask, Task
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench


def drop(bench: Bench) -> int:
    """Cancel all that waits of runs that are ending, and return in how many steps."""
    steps = 0
    while bench.endings.drop_queued() or bench.endings.drop_sending():
        steps += 1
    return steps


def send(bench: Bench, task: Task) -> int:
    """Have a task's file wait for a peer, and return the file's number."""
    with bench.ledger.change():
        number = Outbox(bench.ledger).post(
            task.id, "h1", f"{task.output}x", 5, b"d" * 16, Receipt(b"m", b"i"), replaces=False
        )
        bench.tasks.send({task.id: 5})
    return number


def test_cancelled_run_begins_nothing_and_ends_with_its_last_task(bench: Bench) -> None:
    run = bench.begin("1", SPEC, 10)
    running, done = bench.claim(2)
    bench.end(done)
    bench.endings.cancel(run.id, Force.TERM)
    assert (bench.claim(), bench.endings.force(run.seq), bench.endings.left(run.id)) == ([], Force.TERM, 9)
    drop(bench)
    assert (bench.states(run), bench.jobs.is_over(run.seq)) == ({"done": 1, "running": 1, "cancelled": 8}, False)
    with bench.ledger.change():
        bench.tasks.cancel(running.id)
    assert (bench.states(run), bench.jobs.is_over(run.seq)) == ({"done": 1, "cancelled": 9}, True)
    assert (bench.endings.reason(run.seq), bench.endings.left(run.id)) == (Ending.CANCELLED, 0)
    assert bench.attempts() == [(1, "cancelled"), (1, "done")]


def test_harder_cancel_counts_and_a_milder_one_after_it_does_not(bench: Bench) -> None:
    run = bench.begin("1", SPEC, 1)
    bench.claim()
    for force, expected in ((Force.TERM, Force.TERM), (Force.KILL, Force.KILL), (Force.TERM, Force.KILL)):
        bench.endings.cancel(run.id, force)
        assert bench.endings.force(run.seq) == expected


def test_first_reason_stays(bench: Bench) -> None:
    run = bench.begin("1", SPEC, 1)
    bench.claim()
    bench.endings.halt(run.seq, Force.WAIT)
    bench.endings.cancel(run.id, Force.KILL)
    assert (bench.endings.reason(run.seq), bench.endings.force(run.seq)) == (Ending.HALTED, Force.KILL)


def test_waiting_tasks_are_cancelled_in_small_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEP", 3)
    runs = [bench.begin(name, other(name), 4) for name in ("1", "2")]
    untouched = bench.begin("3", other("3"), 2)
    for run in runs:
        bench.endings.cancel(run.id, Force.TERM)
    assert drop(bench) == 3
    assert [bench.states(run) for run in runs] == [{"cancelled": 4}] * 2
    assert all(bench.jobs.is_over(run.seq) for run in runs)
    assert bench.states(untouched) == {"queued": 2}


@pytest.mark.parametrize("way", ["release", "give_back", "requeue"])
def test_task_that_is_given_back_after_the_cancel_is_cancelled(bench: Bench, way: str) -> None:
    run = bench.begin("1", SPEC, 1)
    (task,) = bench.claim()
    bench.endings.cancel(run.id, Force.TERM)
    if way == "release":
        with bench.ledger.change():
            bench.tasks.release([task.id])
    elif way == "give_back":
        bench.tasks.give_back(0)
    else:
        bench.tasks.requeue([0])
    assert (bench.states(run), bench.jobs.is_over(run.seq)) == ({"cancelled": 1}, True)


def test_run_whose_queueing_broke_off_ends_when_it_is_cancelled(bench: Bench) -> None:
    """Nobody may be left to say that all is queued; who still queues does not bring the run back."""
    run = bench.open("1")
    with bench.ledger.change():
        bench.jobs.begin_queueing(run)
        bench.tasks.enqueue(run, [NewTask(output=f"out/{name}", members=("in/a",), inputs=b"i") for name in "ab"])
    bench.end(*bench.claim())
    bench.endings.cancel(run.id, Force.TERM)
    drop(bench)
    assert (bench.states(run), bench.jobs.is_over(run.seq)) == ({"done": 1, "cancelled": 1}, True)
    with bench.ledger.change():
        bench.jobs.begin_queueing(run)
    assert (bench.jobs.is_over(run.seq), bench.jobs.is_ending(run.seq)) == (True, True)


def test_run_whose_queueing_broke_off_and_that_has_nothing_left_to_do_ends_when_it_is_cancelled(bench: Bench) -> None:
    run = bench.open("1")
    with bench.ledger.change():
        bench.jobs.begin_queueing(run)
        bench.tasks.enqueue(run, [NewTask(output="out/a", members=("in/a",), inputs=b"i")])
    bench.end(*bench.claim())
    bench.endings.cancel(run.id, Force.TERM)
    assert bench.jobs.is_over(run.seq)


def test_cancelled_run_is_not_joined(bench: Bench) -> None:
    run = bench.begin("1", SPEC, 1)
    bench.claim()
    bench.endings.cancel(run.id, Force.TERM)
    assert bench.open("2").seq == run.seq + 1
    with pytest.raises(Refused, match="run 1 is cancelled"):
        bench.open("1")


def test_run_that_is_cancelled_before_it_comes_is_refused(bench: Bench) -> None:
    bench.endings.cancel(RunId("7"), Force.TERM)
    with pytest.raises(Refused, match="run 7 is cancelled"):
        bench.open("7")


@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "halted"])
def test_files_on_their_way_are_dropped_with_a_cancelled_run_and_go_on_with_a_halted_one(
    bench: Bench, *, cancelled: bool
) -> None:
    run = bench.begin("1", other("fan", Verb.FANOUT), 3)
    outbox = Outbox(bench.ledger)
    for task in bench.claim(2):
        send(bench, task)
    if cancelled:
        bench.endings.cancel(run.id, Force.TERM)
    else:
        bench.endings.halt(run.seq, Force.TERM)
    drop(bench)
    if cancelled:
        assert (outbox.size(), outbox.posted(), bench.states(run)) == (0, set(), {"cancelled": 3})
        assert bench.attempts() == [(1, "cancelled")] * 2
    else:
        assert (outbox.size(), bench.states(run)) == (10, {"sending": 2, "cancelled": 1})
        with bench.ledger.change():
            parcels = outbox.parcels("h1", 9)
            outbox.take_out(parcels)
            bench.tasks.finish_sent({parcel.task for parcel in parcels})
    assert bench.jobs.is_over(run.seq)


def test_hosts_that_were_not_told_are_remembered_until_they_are(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.begin("1", SPEC, 1)
    bench.endings.cancel(run.id, Force.TERM)
    assert bench.endings.owed() == ()
    bench.endings.owe(run.id, ("h1", "h2"))
    assert bench.endings.owed() == (Owed("1", Force.TERM, ("h1", "h2")),)
    bench.endings.owe(run.id, ("h2",))
    assert bench.endings.owed() == (Owed("1", Force.TERM, ("h2",)),)
    bench.endings.owe(run.id, ())
    assert bench.endings.owed() == ()
    bench.endings.owe(run.id, ("h1",))
    later = time.time() + 8 * 86400
    monkeypatch.setattr("time.time", lambda: later)
    bench.endings.cancel(RunId("other"), Force.TERM)
    assert bench.endings.owed() == ()


@pytest.mark.parametrize(
    ("limits", "failures"), [(Limits(halt_failed=3), 3), (Limits(halt_percent=20, halt_now=True), 2)]
)
def test_run_is_halted_by_what_fails_on_this_host_unless_a_client_counts_on_all(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, limits: Limits, failures: int
) -> None:
    run = bench.begin("1", SPEC, 10, limits)
    tasks = bench.claim(10)
    for task in tasks[: failures - 1]:
        bench.end(task, fails=True)
    assert not bench.endings.halt_unfollowed(run.seq, limits)
    bench.end(tasks[failures - 1], fails=True)
    bench.endings.note_followed(run.seq)
    assert not bench.endings.halt_unfollowed(run.seq, limits)
    later = time.time() + module.FOLLOWED + 1
    monkeypatch.setattr("time.time", lambda: later)
    assert bench.endings.halt_unfollowed(run.seq, limits)
    assert bench.endings.reason(run.seq) is Ending.HALTED
    assert bench.endings.force(run.seq) is (Force.TERM if limits.halt_now else Force.WAIT)


def test_failures_before_the_client_came_do_not_halt_the_run(bench: Bench) -> None:
    limits = Limits(halt_failed=1)
    bench.begin("1", SPEC, 2, limits)
    bench.end(*bench.claim(), fails=True)
    again = bench.open("2")
    bench.queue(again, "out/000000", "out/000001")
    assert not bench.endings.halt_unfollowed(again.seq, limits)


class Anything:
    """Does to two runs what sessions, workers, courier and clients do, in any order.

    Args:
        bench: their ledger.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.runs: list[Run] = []
        self.claimed: list[Task] = []
        self.number = 0

    def act(self, action: str, value: int) -> None:
        """Do one thing, to what a number chooses."""
        getattr(self, action)(value)

    def give(self, value: int) -> None:
        """A client gives a command, whose inputs may have changed."""
        self.number += 1
        run = self.bench.jobs.open(other(f"o{value % 2}", Verb.FANOUT), RunId(str(self.number)))
        self.bench.queue(run, *(f"o{value % 2}/{name}/" for name in range(value % 7)), inputs=b"i%d" % (value % 3))
        if run not in self.runs:
            self.runs.append(run)

    def claim(self, value: int) -> None:
        """A worker claims tasks."""
        self.claimed += self.bench.claim(1 + value % 3, slot=value % 2)

    def _take(self, value: int) -> list[Task]:
        """Return a claimed task whose attempt is still the present one."""
        task = self.claimed.pop(value % len(self.claimed)) if self.claimed else None
        with self.bench.ledger.change():
            return self.bench.tasks.owned([task]) if task else []

    def end(self, value: int) -> None:
        """An attempt ends in one of the ways it can."""
        for task in self._take(value):
            self._end(task, value)

    def _end(self, task: Task, value: int) -> None:
        tasks = self.bench.tasks
        if value % 6 == 5:
            send(self.bench, task)
            return
        ways: list[Callable[[], None]] = [
            lambda: tasks.finish({task.id: value}), lambda: tasks.fail(task.id, "CommandsFailed", "", 1),
            lambda: tasks.try_again(task.id, "CommandsFailed", "", 1, None, pause=0.0),
            lambda: tasks.cancel(task.id), lambda: tasks.release([task.id]),
        ]  # fmt: skip
        with self.bench.ledger.change():
            ways[value % 6]()

    def lose(self, value: int) -> None:
        """A worker dies, or is told to stop."""
        if value % 2:
            self.bench.tasks.requeue([value // 2 % 2])
        else:
            self.bench.tasks.give_back(value // 2 % 2)

    def deliver(self, value: int) -> None:
        """A file arrives, is refused, or is lost."""
        outbox = Outbox(self.bench.ledger)
        if parcels := outbox.parcels("h1", 9):
            parcel = parcels[value % len(parcels)]
            with self.bench.ledger.change():
                if value % 3 == 2:
                    self.bench.tasks.rewind(parcel.task)
                    return
                outbox.take_out([parcel])
                if value % 3 == 1:
                    self.bench.tasks.fail(parcel.task, "Refused", "", 0)
                self.bench.tasks.finish_sent([parcel.task])

    def stop(self, value: int) -> None:
        """A run is cancelled or halted."""
        if self.runs:
            run = self.runs[value % len(self.runs)]
            if value % 3:
                self.bench.endings.cancel(run.id, Force.TERM)
            else:
                self.bench.endings.halt(run.seq, Force.WAIT)

    def drop(self, value: int) -> None:
        """The courier cancels what waits of runs that are ending."""
        drop(self.bench)

    def check(self) -> None:
        """Look that what is counted along the way is what there is, and that exactly the runs without work are over."""
        db = self.bench.ledger.db
        counted = db.execute(
            "SELECT run, state, epoch, count(*), sum(size) FROM tasks GROUP BY run, state, epoch"
        ).fetchall()
        assert sorted(db.execute("SELECT * FROM tallies WHERE tasks > 0").fetchall()) == sorted(counted)
        assert db.execute("SELECT count(*) FROM tallies WHERE tasks < 0 OR (tasks = 0 AND size <> 0)").fetchone() == (
            0,
        )
        unfinished = {run for run, state, *_ in counted if state in ("queued", "running", "sending")}
        for run in self.runs:
            assert self.bench.jobs.is_over(run.seq) is (run.seq not in unfinished)
        sizes = db.execute("SELECT ifnull(sum(size), 0) FROM outbox").fetchone()[0]
        assert Outbox(self.bench.ledger).size() == sizes

    def finish(self) -> None:
        """Work until nothing is left to do, and look that each task has ended once, with the attempts that it had."""
        for slot in range(2):
            self.bench.tasks.give_back(slot)
        drop(self.bench)
        while claimed := self.bench.claim(9):
            for task in claimed:
                self.bench.end(task)
        with self.bench.ledger.change():
            self.bench.tasks.finish_sent([parcel.task for parcel in Outbox(self.bench.ledger).parcels("h1", 99)])
        while parcels := Outbox(self.bench.ledger).parcels("h1", 9):
            for _ in parcels:
                self.deliver(0)
        self.check()
        for run in self.runs:
            assert not Counter(self.bench.counted(run)).keys() - {"done", "failed", "cancelled"}
        ended = self.bench.ledger.db.execute(
            "SELECT task, count(*), max(number) FROM attempts GROUP BY task"
        ).fetchall()
        attempts = dict(self.bench.ledger.db.execute("SELECT id, attempt FROM tasks WHERE attempt > 0"))
        assert {task: (count, newest) for task, count, newest in ended} == {
            task: (number, number) for task, number in attempts.items()
        }


ACTIONS = ("give", "claim", "end", "lose", "deliver", "stop", "drop")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 60)), min_size=5, max_size=60))
def test_counts_are_those_of_the_tasks_whatever_happens(actions: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Path(folder) / "root")
        root.create()
        anything = Anything(Bench(root))
        try:
            for action, value in [("give", 5), ("claim", 2), *actions]:
                anything.act(action, value)
                anything.check()
            anything.finish()
        finally:
            anything.bench.ledger.close()
