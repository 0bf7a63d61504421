"""Who is told that a run is over, what the first host hears from the others, and that people are told once."""

from __future__ import annotations

import pytest

from sshmap.model import Force
from sshmap.store import forgetting as forgetting_module
from sshmap.store.commit import Store
from sshmap.store.jobs import Run
from sshmap.store.notices import Counts, Notice, Notices
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench
HOSTS = ("h0", "h1", "h2")


@pytest.fixture
def notices(bench: Bench) -> Notices:
    return Notices(bench.ledger)


def over(bench: Bench, notices: Notices, name: str = "1", tasks: int = 2, failed: int = 0) -> Run:
    """Run a job of which people are to be told, to its end."""
    run = bench.begin(name, other(name), tasks)
    notices.expect(run.seq, "notify", HOSTS)
    for number, task in enumerate(bench.claim(tasks)):
        bench.end(task, fails=number < failed)
    return run


def test_run_is_due_when_it_is_over(bench: Bench, notices: Notices, monkeypatch: pytest.MonkeyPatch) -> None:
    run = bench.begin("1", SPEC, 1)
    notices.expect(run.seq, "echo over", HOSTS)
    (task,) = bench.claim()
    assert notices.due() == []
    bench.end(task)
    (notice,) = notices.due()
    assert (notice.run, notice.seq, notice.number, notice.command) == (run.id, run.seq, run.seq, "echo over")
    assert (notice.hosts, notice.ending, notice.ended > 0) == (HOSTS, "", True)


def test_run_of_which_nobody_is_to_be_told_is_never_due(bench: Bench, notices: Notices) -> None:
    bench.begin("1", SPEC, 1)
    bench.end(*bench.claim())
    assert notices.due() == []


def test_run_without_tasks_is_due_when_it_is_queued(bench: Bench, notices: Notices) -> None:
    run = bench.open("1")
    notices.expect(run.seq, "notify", HOSTS)
    assert notices.due() == []
    bench.queue(run)
    assert [notice.run for notice in notices.due()] == ["1"]


def test_cancelled_run_is_due_and_says_so(bench: Bench, notices: Notices) -> None:
    run = bench.begin("1", SPEC, 3)
    notices.expect(run.seq, "notify", HOSTS)
    bench.endings.cancel(run.id, Force.TERM)
    while bench.endings.drop_queued():
        continue
    (notice,) = notices.due()
    assert (notice.ending, notices.counts(run.seq)) == ("cancelled", Counts(cancelled=3))


def test_first_command_and_hosts_stay(bench: Bench, notices: Notices) -> None:
    """Whoever joins the run later changes neither."""
    run = bench.begin("1", SPEC, 1)
    notices.expect(run.seq, "first", HOSTS)
    notices.expect(run.seq, "second", ("evil",))
    bench.end(*bench.claim())
    assert [(notice.command, notice.hosts) for notice in notices.due()] == [("first", HOSTS)]


def test_notice_is_given_once_whoever_gives_it(bench: Bench, notices: Notices) -> None:
    over(bench, notices)
    (notice,) = notices.due()
    beside = Store(bench.store.root)
    claimed = [notices.claim(notice), Notices(beside.ledger).claim(notice), notices.claim(notice)]
    beside.close()
    assert claimed == [True, False, False]
    assert notices.due() == []


def test_notice_of_a_forgotten_run_is_not_given(bench: Bench, notices: Notices) -> None:
    over(bench, notices)
    (notice,) = notices.due()
    while bench.forgetting.step(age=-1):
        continue
    assert not notices.claim(notice)


def test_tasks_are_counted_by_how_they_ended(bench: Bench, notices: Notices) -> None:
    run = over(bench, notices, tasks=5, failed=2)
    assert notices.counts(run.seq) == Counts(done=3, failed=2)
    assert notices.counts(run.seq + 1) == Counts()


def test_unfinished_tasks_are_not_counted(bench: Bench, notices: Notices) -> None:
    run = bench.begin("1", SPEC, 4)
    bench.end(bench.claim(2)[0])
    assert notices.counts(run.seq) == Counts(done=1)


def test_hosts_of_the_run_are_heard(bench: Bench, notices: Notices) -> None:
    run = over(bench, notices)
    assert notices.heard(run.id) == {}
    assert notices.hear(run.id, "h1", Counts(done=4))
    assert notices.hear(run.id, "h2", Counts(failed=1, cancelled=2))
    assert notices.heard(run.id) == {"h1": Counts(done=4), "h2": Counts(failed=1, cancelled=2)}


def test_what_a_host_says_again_takes_the_place_of_what_it_said(bench: Bench, notices: Notices) -> None:
    run = over(bench, notices)
    for done in (1, 1, 7):
        assert notices.hear(run.id, "h1", Counts(done=done))
    assert notices.heard(run.id) == {"h1": Counts(done=7)}


@pytest.mark.parametrize("stranger", ["", "h", "h10", "h1\nh2", "H1", "h3", "%"])
def test_host_that_takes_no_part_is_not_heard(bench: Bench, notices: Notices, stranger: str) -> None:
    run = over(bench, notices)
    assert not notices.hear(run.id, stranger, Counts(done=4))
    assert notices.heard(run.id) == {}


@pytest.mark.parametrize("run", ["", "2", "unknown", "1%"])
def test_run_that_is_not_known_is_not_heard_of(bench: Bench, notices: Notices, run: str) -> None:
    over(bench, notices)
    assert not notices.hear(run, "h1", Counts(done=4))


@pytest.mark.parametrize("host", ["", "h0", "h1"])
def test_run_of_which_nobody_is_to_be_told_is_not_heard_of(bench: Bench, notices: Notices, host: str) -> None:
    """Also not by a client, which has no name as a host."""
    run = bench.begin("1", SPEC, 1)
    assert not notices.hear(run.id, host, Counts(done=4))


def test_what_was_heard_goes_with_its_run_and_no_other(
    bench: Bench, notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [over(bench, notices, name) for name in ("1", "2")]
    for run in runs:
        notices.hear(run.id, "h1", Counts(done=run.seq))
    monkeypatch.setattr(forgetting_module, "KEEP_RUNS", 1)
    while bench.forgetting.step():
        continue
    assert (notices.heard("1"), notices.heard("2")) == ({}, {"h1": Counts(done=2)})
    assert bench.ledger.db.execute("SELECT count(*) FROM overs").fetchone() == (1,)


def test_several_runs_are_due_at_once(bench: Bench, notices: Notices) -> None:
    for name in ("1", "2", "3"):
        over(bench, notices, name)
    first, *_ = notices.due()
    assert notices.claim(first)
    assert [notice.run for notice in notices.due()] == ["2", "3"]
    assert not notices.claim(Notice(seq=99, run="x", number=1, command="c", hosts=HOSTS, ended=0, ending=""))
