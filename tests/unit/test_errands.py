"""Cancels that hosts have others told: who has to be told, by which host it is known, and when it may be forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sshmap.client.errands import _MOST, Errands
from sshmap.model import Force, Owed

HOSTS = ("h0", "h1", "h2", "h3")


def test_host_is_told_once_of_what_several_remember() -> None:
    errands, cancel = Errands(HOSTS), Owed("1", Force.TERM, ("h2",))
    for noter in ("h0", "h1"):
        errands.note(noter, [cancel])
    assert errands.hosts() == ["h2"]
    assert errands.take("h2") == [(cancel, {"h0", "h1"})]
    assert (errands.take("h2"), errands.hosts(), errands.take("h0")) == ([], [], [])


def test_who_is_told_in_whatever_order_is_not_remembered_any_more() -> None:
    errands, cancel = Errands(HOSTS), Owed("1", Force.TERM, ("h1", "h2", "h3"))
    errands.note("h0", [cancel])
    assert errands.settle(cancel, "h2") == ("h1", "h3")
    assert errands.settle(cancel, "h1") == ("h3",)
    assert errands.settle(cancel, "h3") == ()
    assert errands.settle(Owed("2", Force.TERM, ("h1", "h2")), "h2") == ("h1",)


def test_host_that_is_not_in_the_inventory_is_passed_over() -> None:
    errands = Errands(HOSTS)
    errands.note("h0", [Owed("1", Force.TERM, ("gone",))])
    assert errands.hosts() == []


def test_host_has_itself_told_nothing() -> None:
    """It would be told, and told of having been told, whenever it is met."""
    errands = Errands(HOSTS)
    errands.note("h0", [Owed("1", Force.TERM, ("h0", "h1"))])
    assert (errands.hosts(), errands.take("h0")) == (["h1"], [])


def test_host_is_told_of_each_of_several_cancels() -> None:
    errands = Errands(HOSTS)
    first, second = (Owed(run, Force.TERM, ("h2",)) for run in ("1", "2"))
    errands.note("h0", [first])
    errands.note("h1", [second, first])
    assert errands.take("h2") == [(first, {"h0", "h1"}), (second, {"h1"})]


def test_cancel_that_was_heard_of_first_counts_where_hosts_disagree() -> None:
    errands = Errands(HOSTS)
    errands.note("h0", [Owed("1", Force.TERM, ("h2",))])
    errands.note("h1", [Owed("1", Force.KILL, ("h2", "h3"))])
    ((told, noters),) = errands.take("h2")
    assert (told.force, noters) == (Force.TERM, {"h0", "h1"})
    assert [owed.force for owed, _ in errands.take("h3")] == [Force.KILL]


def test_host_that_could_not_be_told_is_told_when_it_is_heard_of_again() -> None:
    """What was taken is gone here; the hosts remember it."""
    errands, cancel = Errands(HOSTS), Owed("1", Force.TERM, ("h2",))
    errands.note("h0", [cancel])
    errands.take("h2")
    assert errands.hosts() == []
    errands.note("h1", [cancel])
    assert errands.take("h2") == [(cancel, {"h1"})]


def test_host_has_others_told_of_so_many_cancels_and_no_more() -> None:
    errands = Errands(HOSTS)
    errands.note("h0", (Owed(str(number), Force.TERM, ("h1",)) for number in range(5000)))
    assert len(errands.take("h1")) == _MOST


def test_host_without_errands_costs_nothing_and_is_not_remembered() -> None:
    errands = Errands(HOSTS)
    assert errands.take("unknown") == []
    errands.note("h0", [])
    assert errands.hosts() == []


def test_threads_that_note_and_take_lose_nothing() -> None:
    errands, taken = Errands(HOSTS), [0] * 4
    each = 200

    def work(place: int) -> None:
        for number in range(each):
            errands.note(f"h{place}", [Owed(f"{place}.{number}", Force.TERM, ("h3",))])
            taken[place] += len(errands.take("h3"))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert sum(taken) + len(errands.take("h3")) == 3 * each
