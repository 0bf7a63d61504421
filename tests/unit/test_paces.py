"""The times of finished tasks: a median within the width of a step, at the same cost for any number of tasks."""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.paces import Paces, seconds_of, step_of


@pytest.fixture
def paces(tmp_path: Path) -> Iterator[Paces]:
    root = Root(tmp_path / "root")
    root.create()
    with contextlib.closing(Ledger(root)) as ledger:
        yield Paces(ledger)


@pytest.mark.parametrize("seconds", [0.005, 0.1, 1.0, 60.0, 86400.0])
def test_time_is_kept_within_a_tenth(seconds: float) -> None:
    assert seconds_of(step_of(seconds)) == pytest.approx(seconds, rel=0.1)


def test_clock_that_was_set_back_counts_as_no_time() -> None:
    assert step_of(-5.0) == step_of(0.0) == 0


def test_median_is_that_of_all_times(paces: Paces) -> None:
    chance = random.Random(7)
    times = [chance.lognormvariate(0, 2) for _ in range(999)]
    for start in range(0, len(times), 100):
        paces.note(1, times[start : start + 100])
    paces.note(2, [1000.0] * 5)
    tasks, median = paces.median(1)
    assert tasks == 999
    assert median == pytest.approx(statistics.median(times), rel=0.1)
    tasks, mean = paces.mean(1)
    assert tasks == 999
    assert mean == pytest.approx(statistics.mean(times), rel=0.1)


def test_run_without_times_has_no_median(paces: Paces) -> None:
    assert (paces.median(1), paces.mean(1)) == ((0, 0.0), (0, 0.0))
