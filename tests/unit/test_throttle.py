"""Reading or sending that is limited to a rate waits as long as that takes, and makes nothing up for time that has passed."""

from __future__ import annotations

from sshmap.agent.host.throttle import Throttle, Throttles


class Clock:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let some time pass."""
        assert seconds >= 0
        self.now += seconds


def test_so_many_bytes_take_so_many_seconds() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock, clock.sleep)
    for size in (500, 250, 250, 9000):
        throttle.wait(size)
    assert clock.now == 110.0


def test_time_in_which_less_was_read_is_not_made_up_for() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock, clock.sleep)
    throttle.wait(1000)
    clock.now += 500
    throttle.wait(2000)
    assert clock.now == 100 + 1 + 500 + 2


def test_without_a_rate_and_for_nothing_there_is_no_wait() -> None:
    clock = Clock()
    Throttle(0, clock, clock.sleep).wait(2**40)
    Throttle(1, clock, clock.sleep).wait(0)
    assert clock.now == 100.0


def test_things_are_limited_apart_and_each_as_told_last() -> None:
    throttles = Throttles()
    one, other = throttles.of(1, 1000), throttles.of(2, 1000)
    assert one is not other
    assert throttles.of(1, 1000) is one
    assert throttles.of(1, 500).rate == 500
