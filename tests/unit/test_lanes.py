"""A lane hands everything on, in order, and whoever leaves it holds nobody up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from sshmap.client.lanes import FULL, Lane
from tests.conftest import wait_until


def test_everything_put_in_is_taken_in_order() -> None:
    lane: Lane[int] = Lane()

    def fill() -> None:
        for number in range(0, 10_000, 2):
            lane.put([number, number + 1])
        lane.end()

    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(fill)
        taken = []
        while not lane.ended:
            if (value := lane.take(0.05)) is not None:
                taken.append(value)
        filling.result(10)
    assert taken == list(range(10_000))


def test_empty_lane_that_ends_has_nothing_to_wait_for() -> None:
    lane: Lane[int] = Lane()
    lane.end()
    assert (lane.wait(), lane.take(0), lane.ended) == (False, None, True)


def test_full_lane_makes_the_one_who_fills_it_wait() -> None:
    lane: Lane[int] = Lane()
    lane.put(list(range(FULL)))
    waiting = threading.Thread(target=lane.put, args=([FULL],), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    assert lane.take(0) == 0
    waiting.join(10)
    assert not waiting.is_alive()


def test_lane_that_was_given_up_counts_what_nobody_takes_and_blocks_nobody() -> None:
    lane: Lane[int] = Lane()
    lane.put(list(range(FULL)))
    waiting = threading.Thread(target=lane.put, args=([1, 2, 3],), daemon=True)
    waiting.start()
    lane.give_up()
    waiting.join(10)
    lane.put([4])
    wait_until(lambda: lane.given_up == FULL + 4)
    assert lane.take(0) is None
