"""A run on all hosts as one client follows it: counts of all, hosts that are lost, too many failures."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from sshmap.client.conversations import Conversations
from sshmap.client.following import Followed, JobProgress, Part, RunFollower
from sshmap.client.job_results import JobFailed, JobResult
from sshmap.errors import HostLost, NoSpace, ProtocolError
from sshmap.limits import Limits
from sshmap.model import Ending, Force, Receipt, Verb
from sshmap.protocol import messages as m
from sshmap.transport.session import Session
from tests import cutting
from tests.conftest import wait_until
from tests.cutting import SEAM
from tests.hostile import Answers, Hosts, Made, Said
from tests.lies import INVENTORY

impatient = cutting.impatient
pytestmark = pytest.mark.usefixtures("impatient")
PARTS = {f"h{number}": Part(run="a1", fresh=10, kept=number, inputs=10) for number in range(3)}


class Follower:
    """A follower of hosts that say what they are told to."""

    def __init__(self, conversations: Conversations, hosts: Hosts, limits: Limits, verb: Verb) -> None:
        self.hosts, self.reports = hosts, list[JobProgress]()
        run = Followed(job="job", number=7, verb=verb, indir="sm://in/", outdir="sm://out/", limits=limits)
        self.follower = RunFollower(conversations, run, PARTS, self._begin, self.reports.append)

    def _begin(self, _: str, session: Session) -> None:
        session.begin(m.Follow(run="a1"), m.RunEnded, m.Problem)

    def result(self) -> JobResult:
        """Follow to the end."""
        return self.follower.result(*self.follower.follow(), 1.0)


Make = Callable[..., Follower]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make a follower; a host that is told nothing is over with nothing done."""
    with contextlib.ExitStack() as stack:

        def made(
            answers: Mapping[str, Answers | list[Said]], limits: Limits | None = None, verb: Verb = Verb.MAP
        ) -> Follower:
            told = {name: said if isinstance(said, dict) else {m.Follow: said} for name, said in answers.items()}
            hosts = Hosts({}, liar="", others=told)  # type: ignore[arg-type]
            monkeypatch.setattr(SEAM, hosts.dial)
            conversations = stack.enter_context(contextlib.closing(Conversations(INVENTORY)))
            return Follower(conversations, hosts, limits or Limits(), verb)

        yield made


def ended(done: int = 0, failed: int = 0, **fields: object) -> m.RunEnded:
    told = {"size": 0, "kept": 0, **fields}
    return m.RunEnded(done=done, failed=failed, **told)  # type: ignore[arg-type]


def failing(*said: Said) -> Answers:
    """Say something, then break, whenever it is asked."""

    def answer() -> Iterator[Said]:
        yield from said
        raise HostLost("it broke")

    return {m.Follow: Made(answer)}


def test_counts_of_all_hosts_are_added_up(make: Make) -> None:
    result = make(
        {"h0": [ended(9, 1, size=5, busy=2.0)], "h1": [ended(10, size=7, kept=1)], "h2": [ended(3, cancelled=7)]}
    ).result()
    assert (result.done, result.failed, result.kept, result.cancelled, result.size) == (22, 1, 1, 7, 12)
    assert (result.number, result.inputs, result.hosts["h0"].busy, result.lost) == (7, 30, 2.0, {})


def test_progress_is_the_sum_of_what_each_host_said_last(make: Make) -> None:
    follower = make({
        "h0": [m.Progress(done=1, queued=9, size=3), m.Progress(done=4, failed=1, queued=5, size=8), ended(10)],
        "h1": [m.Progress(done=2, queued=8, kept=1), ended(10)],
    })  # fmt: skip
    follower.result()
    last = follower.follower.progress()
    assert (last.done, last.failed, last.size, last.total) == (6, 1, 8, 30)
    assert (last.kept, {name: part.done for name, part in last.hosts.items()}) == (3, {"h0": 4, "h1": 2})
    assert len(follower.reports) == 3


def test_total_grows_where_a_host_has_more_to_do_than_it_had_planned(make: Make) -> None:
    """Another client has joined the run; and cancelled tasks belong to it as well."""
    follower = make({"h0": [m.Progress(queued=20, running=2, sending=3, done=5, failed=1, cancelled=4), ended()]})
    follower.result()
    assert follower.follower.progress().total == 35 + 10 + 10


def test_failures_are_named_with_their_hosts(make: Make) -> None:
    one = m.Failure(key="sm://in/x", attempt=3, kind="TimeLimit", message="long", exit_code=143)
    result = make({"h1": [ended(9, 1, failures=(one,))]}).result()
    (failure,) = result.failures
    assert (failure.host, failure.key, failure.attempt, failure.kind) == ("h1", "sm://in/x", 3, "TimeLimit")
    with pytest.raises(JobFailed) as failed:
        result.check()
    assert failed.value.exit_code == 7


def test_lost_host_counts_as_it_has_reported_last(make: Make) -> None:
    progress = m.Progress(done=4, failed=1, queued=4, cancelled=1, size=9)
    result = make({"h0": [ended(10)], "h1": failing(progress), "h2": [ended(10, kept=2)]}).result()
    assert (result.hosts["h1"].done, result.hosts["h1"].failed, result.hosts["h1"].kept) == (4, 1, 1)
    lost = result.lost["h1"]
    # of 10 to run and 1 kept: 4 done, 1 failed, 1 cancelled, 1 kept
    assert lost.message.startswith("h1 down: 4 of 33 keys of in/ not processed")
    assert (lost.exit_code, lost.host) == (3, "h1")


def test_host_that_was_lost_before_it_said_anything_has_done_nothing(make: Make) -> None:
    result = make({"h2": failing()}, verb=Verb.MERGE).result()
    assert result.lost["h2"].message.startswith("h2 down: 10 of 33 groups of in/ not processed")
    assert (result.hosts["h2"].done, result.hosts["h2"].kept) == (0, 2)


def test_host_that_says_more_than_it_had_has_nothing_below_none_left(make: Make) -> None:
    result = make({"h0": failing(m.Progress(done=500))}).result()
    assert result.lost["h0"].message.startswith("h0 down: 0 of 33 keys")


def test_host_without_a_part_is_missing_without_a_number(make: Make) -> None:
    follower = make({}).follower
    result = follower.result({}, {"h9": HostLost("no answer")}, 1.0)
    assert result.lost["h9"].message.startswith("h9 down: an unknown number of keys of in/ not processed: no answer")
    assert "h9" not in result.hosts


def test_full_disk_is_no_lost_host(make: Make) -> None:
    full = m.Problem(kind="NoSpace", message="no room", hint="make some")
    result = make({"h0": [full]}).result()
    assert isinstance(result.lost["h0"], NoSpace)
    assert (result.lost["h0"].hint, "has no space" in result.lost["h0"].message) == ("make some", True)


def test_following_goes_on_after_a_break(make: Make) -> None:
    def answer() -> Iterator[Said]:
        yield m.Progress(done=3)
        if len(follower.hosts.asked(m.Follow)["h0"]) < 4:
            raise HostLost("it broke")
        yield ended(10)

    follower = make({"h0": {m.Follow: Made(answer)}})
    assert follower.result().hosts["h0"].done == 10
    assert len(follower.hosts.asked(m.Follow)["h0"]) == 4


def test_reason_of_the_end_is_that_of_any_host(make: Make) -> None:
    result = make({"h0": [ended(10)], "h2": [ended(1, cancelled=9, ending=Ending.CANCELLED)]}).result()
    assert result.ending is Ending.CANCELLED
    with pytest.raises(JobFailed) as failed:
        result.check()
    assert (failed.value.exit_code, "run 7 was cancelled" in failed.value.message) == (130, True)


def halts(follower: Follower) -> list[m.CancelRun]:
    return [asked for told in follower.hosts.asked(m.CancelRun).values() for asked in told]


@pytest.mark.parametrize(("now", "force"), [(True, Force.TERM), (False, Force.WAIT)])
def test_failures_of_all_hosts_together_halt_the_run_once(make: Make, force: Force, *, now: bool) -> None:
    """However many more fail after that; each host is told that it is no cancel."""
    said = [
        *(m.Progress(failed=number, queued=10 - number) for number in range(1, 6)),
        ended(0, 5, ending=Ending.HALTED),
    ]
    follower = make(dict.fromkeys(PARTS, said), Limits(halt_failed=6, halt_now=now))
    assert follower.result().ending is Ending.HALTED
    wait_until(lambda: len(halts(follower)) == 3, what="not all hosts are told")
    assert {
        name: [(asked.run, asked.force, asked.halt) for asked in told]
        for name, told in follower.hosts.asked(m.CancelRun).items()
    } == {name: [("a1", force, True)] for name in PARTS}


def test_fewer_failures_halt_nothing(make: Make) -> None:
    said = [m.Progress(failed=1, queued=9), ended(9, 1)]
    follower = make(dict.fromkeys(PARTS, said), Limits(halt_failed=4, halt_percent=50))
    follower.result()
    assert not [thread for thread in threading.enumerate() if thread.name == "halt"]
    assert halts(follower) == []


def test_share_of_failures_is_that_of_all_tasks(make: Make) -> None:
    """Three of one host's ten are a tenth of thirty."""
    follower = make(
        {"h0": [m.Progress(failed=2, done=8), m.Progress(failed=3, done=7), ended(7, 3)]}, Limits(halt_percent=10)
    )
    follower.result()
    wait_until(lambda: len(halts(follower)) == 3, what="not all hosts are told")


def test_files_that_wait_for_a_peer_are_counted_over_all_hosts(make: Make) -> None:
    stuck, why = {"h2": 4}, {"h2": "it is gone"}
    hosts = {"h0": [ended(8, sending=2, stuck=stuck, why=why)], "h1": [ended(9, sending=1, stuck=stuck, why=why)]}
    follower = make(hosts, verb=Verb.FANOUT)
    result = follower.result()
    assert result.sending == 3
    assert result.lost["h2"].message == "h2 down: 8 fan-out files for it wait on the other hosts: it is gone"
    assert result.lost["h2"].exit_code == 3


def test_own_loss_of_a_host_counts_more_than_that_files_wait_for_it(make: Make) -> None:
    follower = make({"h0": [ended(9, sending=1, stuck={"h2": 4})], "h2": failing()}, verb=Verb.FANOUT)
    assert "not processed" in follower.result().lost["h2"].message


@pytest.mark.parametrize("kind", ["progress", "end"])
def test_peer_that_is_no_host_of_the_inventory_is_refused(make: Make, kind: str) -> None:
    said: list[Said] = [m.Progress(stuck={"evil": 1}), ended()] if kind == "progress" else [ended(stuck={"evil": 1})]
    _, lost = make({"h1": said}).follower.follow()
    assert isinstance(lost["h1"], ProtocolError)
    assert "'evil'" in str(lost["h1"])


def test_slow_tasks_are_passed_on_as_they_are_said(make: Make) -> None:
    slow = m.Slow("sm://in/x", 90, 10.0)
    follower = make({"h1": [m.Progress(running=1, slow=(slow,)), ended(10)]})
    follower.result()
    assert follower.reports[0].hosts["h1"].slow == (slow,)


def test_stale_outputs_of_the_last_time_that_a_host_was_asked_count(make: Make) -> None:
    """After a break it names them all again."""
    receipt = Receipt(b"m" * 16, b"i" * 16)
    page = m.StaleOutputs(directories=tuple(m.OutputDirectory(f"out/000_{number}/", receipt) for number in range(3)))

    def answer() -> Iterator[Said]:
        yield page
        if len(follower.hosts.asked(m.Follow)["h0"]) < 3:
            raise HostLost("it broke")
        yield ended(10)

    follower = make({"h0": {m.Follow: Made(answer)}}, verb=Verb.FANOUT)
    follower.result()
    assert follower.follower.stale == list(page.directories)


def test_time_worked_by_host_is_told_where_it_is_uneven(make: Make) -> None:
    follower = make({"h0": [ended(5, size=10, busy=9.0)], "h1": [ended(5, size=50, busy=3.0)], "h2": [ended()]})
    assert follower.result().skew() == {"bytes": ("h1", 50.0, 20.0), "time": ("h0", 9.0, 4.0)}
