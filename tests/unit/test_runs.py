"""Runs as a client sees them on all hosts: added up, found, cancelled, read after a break."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest

from sshmap.client.conversations import Conversations
from sshmap.client.runs import RunCalls, attempts_on, cancel
from sshmap.client.summaries import RunSummary, find_run, list_runs
from sshmap.errors import HostLost, HostsFailed, NothingMatched, ProtocolError, UsageError
from sshmap.model import Ending, Force, Owed, TaskState, Verb
from sshmap.protocol import messages as m
from tests import cutting
from tests.cutting import SEAM
from tests.hostile import Answers, Hosts, Made, Said
from tests.lies import INVENTORY

impatient = cutting.impatient
pytestmark = pytest.mark.usefixtures("impatient")
DONE, FAILED, QUEUED, RUNNING = TaskState.DONE, TaskState.FAILED, TaskState.QUEUED, TaskState.RUNNING
Cluster = Callable[[Mapping[str, Answers]], tuple[Conversations, Hosts]]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Make a client of three hosts that answer as told, and say nothing is there where they are told nothing."""
    with contextlib.ExitStack() as stack:

        def make(answers: Mapping[str, Answers]) -> tuple[Conversations, Hosts]:
            hosts = Hosts({}, liar="", others=answers)
            monkeypatch.setattr(SEAM, hosts.dial)
            return stack.enter_context(contextlib.closing(Conversations(INVENTORY))), hosts

        yield make


def row(run: str = "a1", number: int = 1, ended: int = 200, **fields: object) -> m.JobRow:
    told = {
        "job": "job", "verb": Verb.MAP, "indir": "sm://in/", "outdir": "sm://out/", "command": "cat", "submitted": 100,
        "states": {}, **fields,
    }  # fmt: skip
    return m.JobRow(run=run, number=number, ended=ended, **told)  # type: ignore[arg-type]


def knowing(*rows: m.JobRow) -> Answers:
    return {m.Jobs: [m.JobList(jobs=rows)]}


def broken() -> Iterator[Said]:
    """Break the connection."""
    raise HostLost("it broke")
    yield m.Served()


#: a host that does not answer any request about runs
DEAD: Answers = {kind: Made(broken) for kind in (m.Jobs, m.CancelRun, m.ListAttempts, m.Look, m.Forget)}


def one(cluster: Cluster, *rows: m.JobRow) -> RunSummary:
    """Return the one run that hosts know, of which each says a row."""
    conversations, _ = cluster({f"h{number}": knowing(row) for number, row in enumerate(rows)})
    (run,), failures = list_runs(conversations)
    assert not failures
    return run


def test_tasks_of_all_hosts_are_added_up_by_state(cluster: Cluster) -> None:
    run = one(
        cluster,
        row(states={DONE: 3, FAILED: 1}, kept=2, size=10),
        row(states={DONE: 4}, size=5),
        row(states={RUNNING: 1, QUEUED: 7}, kept=1),
    )
    assert run.states == {DONE: 7, FAILED: 1, RUNNING: 1, QUEUED: 7}
    assert (run.kept, run.size, run.left, [*run.hosts]) == (3, 15, 8, ["h0", "h1", "h2"])


def test_files_on_their_way_are_left_to_do(cluster: Cluster) -> None:
    assert one(cluster, row(states={TaskState.SENDING: 2}), row(states={TaskState.CANCELLED: 9})).left == 2


def test_run_is_over_when_all_its_hosts_have_ended(cluster: Cluster) -> None:
    """At the time at which the last did; it began when the first did."""
    run = one(cluster, row(ended=200, submitted=110), row(ended=300, submitted=105))
    assert (run.submitted, run.ended, run.state) == (105, 300, "done")
    run = one(cluster, row(ended=200), row(ended=0), row(ended=300))
    assert (run.ended, run.state) == (0, "running")


def test_number_is_the_highest_that_a_host_says(cluster: Cluster) -> None:
    """A host that was joined in the middle of its start has none yet."""
    assert one(cluster, row(number=0), row(number=7)).number == 7


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ([row(states={DONE: 1})], "done"),
        ([row(states={DONE: 1}), row(states={FAILED: 1})], "failed"),
        ([row(), row(ending=Ending.CANCELLED)], "cancelled"),
        ([row(ending=Ending.HALTED, states={FAILED: 3}), row()], "halted"),
        ([row(ending=Ending.CANCELLED, ended=0), row()], "running"),
        ([row()], "done"),
    ],
)
def test_state_is_a_word(cluster: Cluster, rows: list[m.JobRow], state: str) -> None:
    assert one(cluster, *rows).state == state


def test_newest_run_is_first(cluster: Cluster) -> None:
    conversations, _ = cluster({
        "h0": knowing(row("a", 3), row("b", 1)), "h1": knowing(row("c", 2), row("d", 2, submitted=500)),
    })  # fmt: skip
    assert [run.run for run in list_runs(conversations)[0]] == ["a", "d", "c", "b"]


def test_run_that_only_some_hosts_know_is_listed(cluster: Cluster) -> None:
    conversations, _ = cluster({"h1": knowing(row("a"))})
    (run,), _ = list_runs(conversations)
    assert [*run.hosts] == ["h1"]


def test_host_that_does_not_answer_hides_nothing(cluster: Cluster) -> None:
    conversations, _ = cluster({"h0": knowing(row("a")), "h1": DEAD})
    runs, failures = list_runs(conversations)
    assert ([run.run for run in runs], [*failures]) == (["a"], ["h1"])
    with pytest.raises(HostsFailed) as failed:
        RunCalls(conversations).jobs()
    assert [run.run for run in failed.value.results["runs"]] == ["a"]  # type: ignore[attr-defined]
    assert RunCalls(conversations).job("1").run == "a"


def test_no_answer_at_all_is_no_missing_run(cluster: Cluster) -> None:
    conversations, _ = cluster(dict.fromkeys(("h0", "h1", "h2"), DEAD))
    with pytest.raises(HostsFailed) as failed:
        RunCalls(conversations).job("last")
    assert [*failed.value.failures] == ["h0", "h1", "h2"]


def summary(run: str, number: int) -> RunSummary:
    return RunSummary(
        run=run, number=number, job="j", verb=Verb.MAP, indir="sm://in/", outdir=f"sm://{run}/", command="cat", submitted=1,
        ended=2, origin="", ending=None, states={}, kept=0, size=0, hosts={},
    )  # fmt: skip


RUNS = [summary("ab12", 17), summary("17ff", 3), summary("abcd", 2), summary("0002", 1)]


@pytest.mark.parametrize(
    ("text", "run"),
    [("last", "ab12"), ("17", "ab12"), ("3", "17ff"), ("17f", "17ff"), ("abc", "abcd"), ("2", "abcd"), ("000", "0002"), ("0002", "0002")],
)  # fmt: skip
def test_run_is_named_by_number_or_last_or_the_beginning_of_its_id(text: str, run: str) -> None:
    """A number counts before an id that begins with it."""
    assert find_run(RUNS, text).run == run


@pytest.mark.parametrize(
    "text", ["", "18", "zz", "²", "٣", "1" * 5000, "-3", "Last", "ab12x", "1.0", "\x1b"], ids=ascii
)
def test_run_that_is_not_known_is_named(text: str) -> None:
    with pytest.raises(NothingMatched) as missing:
        find_run(RUNS, text)
    assert (repr(text) in missing.value.message, "sshmap jobs" in missing.value.hint) == (True, True)


def test_last_of_no_runs_is_not_known() -> None:
    with pytest.raises(NothingMatched, match="'last'"):
        find_run([], "last")


def test_beginning_of_several_ids_shows_them() -> None:
    with pytest.raises(UsageError) as several:
        find_run(RUNS, "ab")
    assert "ab12 (map sm://in/ sm://ab12/), abcd (map sm://in/ sm://abcd/)" in several.value.message
    assert "by its id" in several.value.hint


def test_number_that_two_runs_have_shows_both() -> None:
    """Two clients may have begun them at once where hosts did not reach all."""
    with pytest.raises(UsageError) as both:
        find_run([summary("x1", 5), summary("y1", 5)], "5")
    assert ("x1" in both.value.message, "y1" in both.value.message) == (True, True)


def test_only_some_of_many_are_shown() -> None:
    with pytest.raises(UsageError) as many:
        find_run([summary(f"aa{number:02}", number) for number in range(50)], "aa")
    assert len(many.value.message) < 500


IDS = dict.fromkeys(("h0", "h1", "h2"), "a1")


def test_cancel_tells_all_hosts_and_counts_what_is_left(cluster: Cluster) -> None:
    conversations, hosts = cluster(
        {"h0": {m.CancelRun: [m.CancelNoted(left=2)]}, "h1": {m.CancelRun: [m.CancelNoted(left=3)]}}
    )
    assert cancel(conversations, IDS, Force.TERM) == 5
    told = hosts.asked(m.CancelRun)
    assert {name: [(r.run, r.force, r.wait, r.unreached, r.halt) for r in asked] for name, asked in told.items()} == {
        name: [("a1", Force.TERM, True, (), False)] for name in IDS
    }


def test_tasks_that_have_not_ended_are_told_with_the_cancelled_run(cluster: Cluster) -> None:
    conversations, _ = cluster({"h0": {**knowing(row(ended=0)), m.CancelRun: [m.CancelNoted(left=2)]}})
    assert RunCalls(conversations).cancel("last").unended == 2


def test_run_that_a_host_was_left_out_of_is_incomplete(cluster: Cluster) -> None:
    wanted = ("h0", "h1", "elsewhere")
    run = one(cluster, row(states={DONE: 3}, wanted=wanted))
    # a host that is not of the cluster, or does not answer, is not said to be left out
    assert (run.left_out, run.state) == (("h1",), "incomplete")
    assert one(cluster, *[row(states={DONE: 3}, wanted=wanted)] * 2).state == "done"
    assert one(cluster, row(states={FAILED: 1}, wanted=wanted)).state == "failed"


def test_cancel_that_does_not_reach_a_host_is_remembered_by_the_others(cluster: Cluster) -> None:
    conversations, hosts = cluster({"h1": DEAD})
    with pytest.raises(HostLost) as lost:
        cancel(conversations, IDS, Force.KILL)
    assert lost.value.message.startswith("h1 not told that the run is cancelled")
    assert "the others remember it" in lost.value.hint
    for name in ("h0", "h2"):
        assert [(asked.unreached, asked.wait) for asked in hosts.asked(m.CancelRun)[name]] == [
            ((), True),
            (("h1",), False),
        ]


def test_cancel_that_reaches_nobody_is_remembered_by_nobody(cluster: Cluster) -> None:
    conversations, _ = cluster(dict.fromkeys(IDS, DEAD))
    with pytest.raises(HostLost) as lost:
        cancel(conversations, IDS, Force.TERM)
    assert (lost.value.message.startswith("h[0-2] not told"), lost.value.hint) == (True, "type it again later")


def test_cancel_by_number_tells_also_hosts_that_do_not_know_the_run(cluster: Cluster) -> None:
    """A client may be about to begin it there."""
    conversations, hosts = cluster({"h2": knowing(row("a1", 4))})
    assert RunCalls(conversations).cancel("4", at_once=True).run == "a1"
    told = hosts.asked(m.CancelRun)
    assert {name: [(asked.run, asked.force) for asked in told[name]] for name in told} == {
        name: [("a1", Force.KILL)] for name in IDS
    }


def attempt(task: int, number: int = 1, state: TaskState = DONE) -> m.AttemptRow:
    return m.AttemptRow(task=task, key=f"sm://in/{task}", state=state, attempt=number)


def pages(*pages: list[m.AttemptRow]) -> list[Said]:
    return [*(m.AttemptList(rows=tuple(page)) for page in pages), m.Served()]


def read(conversations: Conversations) -> list[tuple[int, int]]:
    return [(row.task, row.attempt) for row in attempts_on(conversations, "h0", m.ListAttempts(run="a1"))]


def test_attempts_come_page_by_page(cluster: Cluster) -> None:
    listed = pages([attempt(1), attempt(1, 2)], [attempt(2), attempt(3, 0, QUEUED)])
    conversations, _ = cluster({"h0": {m.ListAttempts: listed}})
    assert read(conversations) == [(1, 1), (1, 2), (2, 1), (3, 0)]


def test_attempts_go_on_behind_the_last_after_a_break_without_repeats(cluster: Cluster) -> None:
    """A task may have been tried again meanwhile: its newer attempt comes too."""

    def breaking(*rows: m.AttemptRow) -> Iterator[Said]:
        yield m.AttemptList(rows=rows)
        yield from broken()

    answers = iter([
        breaking(attempt(1), attempt(2, 1)),
        breaking(attempt(1), attempt(2, 1), attempt(2, 2), attempt(3, 0, QUEUED)),
        iter(pages([attempt(1), attempt(2), attempt(2, 2)], [attempt(3, 1), attempt(3, 0, QUEUED), attempt(4)])),
    ])  # fmt: skip
    conversations, hosts = cluster({"h0": {m.ListAttempts: Made(lambda: next(answers))}})
    assert read(conversations) == [(1, 1), (2, 1), (2, 2), (3, 0), (4, 1)]
    assert len(hosts.asked(m.ListAttempts)["h0"]) == 3


def test_waiting_task_comes_after_its_attempts(cluster: Cluster) -> None:
    conversations, _ = cluster({"h0": {m.ListAttempts: pages([attempt(1), attempt(1, 2), attempt(1, 0, QUEUED)])}})
    assert read(conversations) == [(1, 1), (1, 2), (1, 0)]


@pytest.mark.parametrize(
    "rows",
    [[attempt(2), attempt(1)], [attempt(1), attempt(1)], [attempt(1, 2), attempt(1)], [attempt(1, 0), attempt(1, 1)]],
)
def test_attempts_out_of_order_are_refused(cluster: Cluster, rows: list[m.AttemptRow]) -> None:
    for listed in (pages(rows), pages([rows[0]], [rows[1]])):
        conversations, _ = cluster({"h0": {m.ListAttempts: listed}})
        with pytest.raises(ProtocolError, match="out of order"):
            read(conversations)


def test_attempts_of_a_run_are_asked_of_the_hosts_that_know_it(cluster: Cluster) -> None:
    conversations, hosts = cluster({
        "h0": {**knowing(row("a1", 4)), m.ListAttempts: pages([attempt(1)])},
        "h2": {**knowing(row("a1", 4)), m.ListAttempts: pages([attempt(7)])},
    })  # fmt: skip
    found = RunCalls(conversations).attempts("4", failed=True, key="sm://in/1", stderr=True)
    assert [(host, row.task) for host, row in found] == [("h0", 1), ("h2", 7)]
    request = m.ListAttempts(run="a1", failed=True, key="sm://in/1", stderr=True)
    assert hosts.asked(m.ListAttempts) == {"h0": [request], "h2": [request]}


def test_look_and_forget_tell_hosts_apart_that_do_not_answer(cluster: Cluster) -> None:
    conversations, hosts = cluster({"h1": DEAD})
    seen, failures = RunCalls(conversations).look()
    assert ([*seen], [*failures]) == (["h0", "h2"], ["h1"])
    with pytest.raises(HostsFailed) as failed:
        RunCalls(conversations).forget(3600)
    assert ([*failed.value.failures], [*failed.value.results]) == (["h1"], ["h0", "h2"])
    assert {request.age for asked in hosts.asked(m.Forget).values() for request in asked} == {3600}


def welcoming(name: str, *owed: Owed) -> Answers:
    return {m.Hello: [m.Welcome(version=m.VERSION, host=name, owed=owed)]}


def test_cancel_that_a_host_remembers_is_delivered_and_then_forgotten(cluster: Cluster) -> None:
    conversations, hosts = cluster({"h0": welcoming("h0", Owed("r", Force.KILL, ("h1", "h2")))})
    for name in ("h0", "h1", "h2"):
        conversations.ask(name, lambda session: session.ask(m.Ping(), m.Served))
    told = hosts.asked(m.CancelRun)
    assert [(asked.run, asked.force) for asked in told["h1"] + told["h2"]] == [("r", Force.KILL)] * 2
    assert [asked.unreached for asked in told["h0"]] == [("h2",), ()]


def test_cancel_that_was_heard_of_last_is_delivered_at_the_end(cluster: Cluster) -> None:
    conversations, hosts = cluster({"h1": welcoming("h1", Owed("r", Force.TERM, ("h0",)))})
    for name in ("h0", "h1"):
        conversations.ask(name, lambda session: session.ask(m.Ping(), m.Served))
    assert "h0" not in hosts.asked(m.CancelRun)
    conversations.close()
    assert [asked.run for asked in hosts.asked(m.CancelRun)["h0"]] == ["r"]


def test_hosts_that_owe_each_other_new_cancels_each_time_come_to_an_end(cluster: Cluster) -> None:
    """What is heard while others are told is told later, and not in between."""
    opened = iter(range(10_000))

    def welcome(name: str, other: str) -> Made:
        return Made(lambda: iter(welcoming(name, Owed(f"{name}{next(opened)}", Force.TERM, (other,)))[m.Hello]))

    conversations, hosts = cluster({"h0": {m.Hello: welcome("h0", "h1")}, "h1": {m.Hello: welcome("h1", "h0")}})
    for _ in range(3):
        for name in ("h0", "h1"):
            # no session is at hand, so each request is welcomed anew
            conversations.drop("h0")
            conversations.drop("h1")
            conversations.ask(name, lambda session: session.ask(m.Ping(), m.Served))
    conversations.close()
    assert sum(map(len, hosts.asked(m.CancelRun).values())) < 50
