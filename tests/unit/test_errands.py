"""Cancels that hosts have others told: who has to be told, by which host it is known, and when it may be forgotten."""

from __future__ import annotations

from sshmap.client.errands import Errands
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
