"""When a running command is ended: its run is ending, or its time is over; on a clock that the tests turn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sshmap.agent.daemon import watch as module
from sshmap.agent.daemon.watch import Watch
from sshmap.errors import Cancelled, TimeLimit
from sshmap.limits import Limits
from sshmap.model import Force, RunId
from sshmap.store.commit import Store
from sshmap.store.paces import FEWEST
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench


class Clock:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def watch(bench: Bench, clock: Clock) -> Iterator[Watch]:
    """A worker's watch: on a connection of its own, as another process has."""
    with contextlib.closing(Store(bench.store.root)) as store:
        yield Watch(store)


def nothing() -> None:
    """Be called while a command takes long."""


def begin(bench: Bench, watch: Watch, limits: Limits, name: str = "1") -> int:
    """Watch over the first task of a run; return the run."""
    run = bench.begin(name, other(name), 5, limits)
    (task,) = bench.tasks.claim(0, 1, fanouts=True, run=run.seq)
    watch.begin(task, nothing)
    return run.seq


def paced(bench: Bench, run: int, *seconds: float) -> None:
    """Let so many tasks of a run have finished after some seconds each."""
    with bench.ledger.change():
        bench.tasks.pace(run, seconds)


def test_command_without_a_limit_may_take_for_ever(bench: Bench, watch: Watch, clock: Clock) -> None:
    begin(bench, watch, Limits())
    clock.now += 1e9
    assert watch.look() is Force.WAIT
    watch.check(0)
    watch.check(1)


def test_command_is_ended_when_its_time_is_over(bench: Bench, watch: Watch, clock: Clock) -> None:
    begin(bench, watch, Limits(timeout=90))
    clock.now += 90
    assert watch.look() is Force.WAIT
    clock.now += 0.1
    assert watch.look() is Force.TERM
    with pytest.raises(TimeLimit, match="took longer than 90s, and was ended") as over:
        watch.check(143)
    assert over.value.exit_code == 7


def test_command_that_ends_well_though_its_time_was_over_has_failed(bench: Bench, watch: Watch, clock: Clock) -> None:
    """It was told to end, so what it made may be less than it should be."""
    begin(bench, watch, Limits(timeout=1))
    clock.now += 2
    watch.look()
    with pytest.raises(TimeLimit):
        watch.check(0)


def test_each_command_has_its_time_for_itself(bench: Bench, watch: Watch, clock: Clock) -> None:
    run = bench.begin("1", SPEC, 2, Limits(timeout=10))
    for task in bench.claim(2):
        assert task.run == run.seq
        watch.begin(task, nothing)
        clock.now += 9
        assert watch.look() is Force.WAIT
        watch.check(0)
    clock.now += 2
    assert watch.look() is Force.TERM


def test_limit_is_forgotten_with_the_command_that_had_it(bench: Bench, watch: Watch, clock: Clock) -> None:
    begin(bench, watch, Limits(timeout=10))
    clock.now += 11
    assert watch.look() is Force.TERM
    begin(bench, watch, Limits(), "2")
    clock.now += 1000
    assert watch.look() is Force.WAIT
    watch.check(0)


@pytest.mark.parametrize("finished", range(FEWEST + 2))
def test_share_of_the_median_counts_only_once_some_have_finished(
    bench: Bench, watch: Watch, clock: Clock, finished: int
) -> None:
    run = begin(bench, watch, Limits(timeout_percent=300))
    paced(bench, run, *[10.0] * finished)
    clock.now += 50
    assert watch.look() is (Force.TERM if finished >= FEWEST else Force.WAIT)


def test_share_of_the_median_is_that_of_the_median(bench: Bench, watch: Watch, clock: Clock) -> None:
    run = begin(bench, watch, Limits(timeout_percent=200))
    paced(bench, run, 1.0, 10.0, 1000.0)
    clock.now += 18
    assert watch.look() is Force.WAIT
    clock.now += 4
    assert watch.look() is Force.TERM


def test_shorter_of_both_limits_counts(bench: Bench, watch: Watch, clock: Clock) -> None:
    for name, timeout, seconds in (("1", 100.0, 25), ("2", 15.0, 16)):
        run = begin(bench, watch, Limits(timeout=timeout, timeout_percent=200), name)
        paced(bench, run, 10.0, 10.0, 10.0)
        clock.now += seconds
        assert watch.look() is Force.TERM


def test_time_that_counts_until_there_is_a_median_is_the_fixed_one(bench: Bench, watch: Watch, clock: Clock) -> None:
    begin(bench, watch, Limits(timeout=30, timeout_percent=200))
    clock.now += 31
    assert watch.look() is Force.TERM


def test_median_is_read_again_while_a_command_runs(bench: Bench, watch: Watch, clock: Clock) -> None:
    """First there is none, then one that lets the command be, then one by which it takes too long."""
    run = begin(bench, watch, Limits(timeout_percent=100))
    clock.now += 20
    assert watch.look() is Force.WAIT
    paced(bench, run, 100.0, 100.0, 100.0)
    assert watch.look() is Force.WAIT
    paced(bench, run, *[1.0] * 10)
    assert watch.look() is Force.WAIT
    clock.now += 6
    assert watch.look() is Force.TERM


def test_median_of_another_run_does_not_count(bench: Bench, watch: Watch, clock: Clock) -> None:
    quick = begin(bench, watch, Limits(timeout_percent=100))
    paced(bench, quick, 1.0, 1.0, 1.0)
    clock.now += 0.5
    assert watch.look() is Force.WAIT
    begin(bench, watch, Limits(timeout_percent=100), "2")
    clock.now += 3
    assert watch.look() is Force.WAIT


@pytest.mark.parametrize("force", [Force.TERM, Force.KILL])
def test_command_of_a_cancelled_run_is_ended_as_the_cancel_says(bench: Bench, watch: Watch, force: Force) -> None:
    begin(bench, watch, Limits())
    assert watch.look() is Force.WAIT
    bench.endings.cancel(RunId("1"), force)
    assert watch.look() is force
    with pytest.raises(Cancelled):
        watch.check(143)


def test_cancel_that_grows_harder_is_seen(bench: Bench, watch: Watch) -> None:
    begin(bench, watch, Limits())
    for force in (Force.TERM, Force.KILL, Force.TERM):
        bench.endings.cancel(RunId("1"), force)
        watch.look()
    assert watch.look() is Force.KILL


def test_command_that_ended_well_before_the_cancel_reached_it_has_succeeded(bench: Bench, watch: Watch) -> None:
    begin(bench, watch, Limits())
    bench.endings.cancel(RunId("1"), Force.TERM)
    watch.look()
    watch.check(0)


def test_halt_that_lets_running_commands_be_does_so(bench: Bench, watch: Watch) -> None:
    run = begin(bench, watch, Limits(halt_failed=1))
    bench.endings.halt(run, Force.WAIT)
    assert watch.look() is Force.WAIT
    watch.check(1)
    bench.endings.halt(run, Force.TERM)
    assert watch.look() is Force.TERM


def test_cancel_of_another_run_leaves_the_command_alone(bench: Bench, watch: Watch) -> None:
    begin(bench, watch, Limits())
    bench.begin("2", other("2"), 1)
    bench.endings.cancel(RunId("2"), Force.KILL)
    assert watch.look() is Force.WAIT


def test_kill_counts_more_than_a_time_that_is_over(bench: Bench, watch: Watch, clock: Clock) -> None:
    begin(bench, watch, Limits(timeout=1))
    bench.endings.cancel(RunId("1"), Force.KILL)
    clock.now += 2
    assert watch.look() is Force.KILL


def test_ledger_is_read_only_when_another_process_wrote(
    bench: Bench, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(bench, watch, Limits())
    reads = []

    def force(run: int) -> Force:
        reads.append(run)
        return Force.WAIT

    monkeypatch.setattr(watch._endings, "force", force)
    for _ in range(5):
        watch.look()
    bench.begin("2", other("2"), 1)
    watch.look()
    watch.look()
    assert reads == [1, 1]


def test_meanwhile_is_called_once_for_each_command_that_takes_long(bench: Bench, watch: Watch) -> None:
    bench.begin("1", SPEC, 3)
    called: list[int] = []
    long, short, other_long = bench.claim(3)
    for task, looks in ((long, 3), (short, 0), (other_long, 2)):
        watch.begin(task, lambda task=task: called.append(task.id))  # type: ignore[misc]
        for _ in range(looks):
            watch.look()
    assert called == [long.id, other_long.id]
