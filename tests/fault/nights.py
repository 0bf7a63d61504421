"""What the tests of a night of random faults share: how many faults, the dice, three real hosts, and a pipeline on them.

FAULTS says how many kills there are, 500 by itself, and the other faults go by it; FAULT_SEED throws the same dice again.
At the end a table says what was done and what came of it.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.fault.table import SEED, Row
from tests.pipeline import Fault, Pipeline
from tests.sshd import SshdHosts

#: read at import: a fixture cleans the environment before each test
FAULTS = int(os.environ.get("FAULTS", "500"))
FILLS, CANCELS = max(4, FAULTS // 10), max(4, FAULTS // 10)
STOPS, CUTS = max(1, FAULTS // 50), max(1, FAULTS // 50)
FLIPS, WRITERS = min(100, max(4, FAULTS // 5)), min(100, max(8, FAULTS))
#: seconds that a worker stands still
STANDS_STILL = 30.0 if FAULTS >= 500 else 4.0
#: seconds within which nothing of a cancelled run may live
GONE_WITHIN = 10.0
WORKERS = 2
#: seconds that a test of a night may take
NIGHT = 4 * 3600


def dice_of(name: str) -> random.Random:
    """Return dice that fall the same way for the same seed."""
    return random.Random(f"{SEED} {name}")


def suffer_often(
    pipeline: Pipeline, prefix: str, faults: Iterator[tuple[Row, Fault]], count: int, codes: set[int]
) -> None:
    """Disturb one command after the other until so many were hit; one that ended too soon does not count.

    Args:
        pipeline: the hosts and commands.
        prefix: how its buckets begin.
        faults: what is done, and where it is counted.
        count: how many commands are to be hit.
        codes: what a command that is hit may end with.
    """
    places, anew = pipeline.places(f"{prefix}0-"), itertools.count(1)
    row, fault = next(faults)
    for _ in range(3 * count + 10):
        step, bucket = next(places)
        before = len(row.violations)
        with row.watched(f"FAULT_SEED={SEED} {row.fault}, {step.verb} to {bucket}"):
            suffered = pipeline.suffer(step, bucket, fault, codes)
        if len(row.violations) > before:
            places = pipeline.places(f"{prefix}{next(anew)}-")
            row.take("violated")
        elif suffered.hit:
            row.take(ending_of(suffered.code), *(["typed again more than once"] if suffered.again > 1 else []))
        else:
            continue
        if (count := count - 1) == 0:
            return
        row, fault = next(faults)
    raise AssertionError(f"{count} commands ended before they could be disturbed")


def ending_of(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


@pytest.fixture(scope="module")
def hosts(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """Three hosts that let many log in at once."""
    hosts = make_sshd_hosts()
    hosts.add(3, config=["MaxStartups 200"])
    return hosts


@pytest.fixture(scope="module")
def pipeline(hosts: SshdHosts, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The pipeline on them."""
    typed = hosts.write(hosts.inventory("openssh", workers=WORKERS))
    return Pipeline(hosts, typed, tmp_path_factory.mktemp("pipeline"))
