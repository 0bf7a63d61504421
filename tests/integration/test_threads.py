"""A `Cluster` that several threads use at once, and calls within calls: always the right content."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.listing import Placed
from tests.conftest import files_below
from tests.cutting import in_time
from tests.integration import fleet

THREADS = 8
KEYS = {f"00{n % 3}_k{n}": b"content %d;" % n * (n * 40) for n in range(40)}


@pytest.fixture
def filled(shared: Cluster, bucket: str) -> str:
    """A bucket of the shared hosts with keys on each of them."""
    for name, content in KEYS.items():
        shared.put(content, f"sm://{bucket}/{name}")
    return bucket


def names_of(cluster: Cluster, prefix: str) -> list[str]:
    """Return the names below a prefix, without it."""
    return [
        row.path.removeprefix(prefix) for row in cluster.ls(f"sm://{prefix}", recursive=True) if isinstance(row, Placed)
    ]


def at_once(call: Callable[[int], None], threads: int = THREADS) -> None:
    """Make a call in several threads at once; a failure of one is the test's."""
    failures: list[BaseException] = []
    start = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            start.wait(10)
            call(number)
        except BaseException as exc:  # noqa: BLE001  # raised again below
            failures.append(exc)

    running = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
        assert not thread.is_alive(), "it hangs"
    if failures:
        raise failures[0]


def test_threads_that_get_receive_the_content_of_their_own_keys(shared: Cluster, filled: str) -> None:
    def get_some(number: int) -> None:
        for name in list(KEYS)[number::THREADS] * 5:
            assert shared.get(f"sm://{filled}/{name}") == KEYS[name]

    at_once(get_some)


def test_threads_that_do_different_things_do_not_disturb_each_other(
    shared: Cluster, filled: str, tmp_path: Path
) -> None:
    def put_some(number: int) -> None:
        for n in range(20):
            shared.put(b"%d %d" % (number, n), f"sm://{filled}-put/{number}/{n}")
        for n in range(20):
            assert shared.get(f"sm://{filled}-put/{number}/{n}") == b"%d %d" % (number, n)

    def list_some(_: int) -> None:
        for _ in range(10):
            assert names_of(shared, f"{filled}/") == sorted(KEYS)

    def map_some(number: int) -> None:
        result = shared.map(f"sm://{filled}/", f"sm://{filled}-map/{number}/", f"sed s/content/{number}/")
        assert result.done == len(KEYS)
        for name in list(KEYS)[::7]:
            assert shared.get(f"sm://{filled}-map/{number}/{name}") == KEYS[name].replace(b"content", b"%d" % number, 1)

    def copy_some(number: int) -> None:
        shared.get_tree(f"sm://{filled}/", tmp_path / str(number))
        assert {file.name: file.read_bytes() for file in files_below(tmp_path / str(number))} == KEYS

    kinds = [put_some, list_some, map_some, copy_some]
    at_once(lambda number: kinds[number % len(kinds)](number))


def test_key_is_read_within_a_loop_over_a_listing(shared: Cluster, filled: str) -> None:
    seen = {row.path: shared.get(row) for row in shared.ls(f"sm://{filled}/") if isinstance(row, Placed)}
    assert seen == {f"{filled}/{name}": content for name, content in KEYS.items()}


def test_listing_within_a_loop_over_a_listing_is_complete(shared: Cluster, filled: str) -> None:
    for row in itertools.islice(shared.ls(f"sm://{filled}/"), 5):
        assert isinstance(row, Placed)
        assert names_of(shared, f"{filled}/") == sorted(KEYS)


def test_listing_that_is_stopped_half_way_leaves_the_next_one_complete(shared: Cluster, filled: str) -> None:
    for count in (0, 1, 7, len(KEYS) - 1, len(KEYS)):
        kept = shared.ls(f"sm://{filled}/", recursive=True)
        assert len(list(itertools.islice(kept, count))) == count
        assert names_of(shared, f"{filled}/") == sorted(KEYS)
        assert shared.get(f"sm://{filled}/000_k3") == KEYS["000_k3"]


def test_listing_of_many_pages_that_is_dropped_half_way_leaves_the_next_one_complete(
    shared: Cluster, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "many").mkdir()
    names = [f"000_{number:04}" for number in range(2300)]
    for name in names:
        (tmp_path / "many" / name).touch()
    shared.put_tree(tmp_path / "many", f"sm://{bucket}/")
    for count in (1, 2100):
        assert len(list(itertools.islice(shared.ls(f"sm://{bucket}/"), count))) == count
        assert names_of(shared, f"{bucket}/") == names


def test_cluster_that_is_closed_under_a_listing_can_be_used_again_and_the_listing_never_ends_short(
    shared: Cluster, filled: str
) -> None:
    listing = shared.ls(f"sm://{filled}/", recursive=True)
    first = next(listing)
    shared.close()
    rest = in_time(lambda: list(listing))
    assert isinstance(rest, Exception) or len([first, *rest]) == len(KEYS)
    assert names_of(shared, f"{filled}/") == sorted(KEYS)


@pytest.mark.parametrize("after", [1, 20, 70])
def test_copy_out_loses_nothing_when_the_listener_of_a_host_is_killed(
    shared: Cluster, bucket: str, tmp_path: Path, after: int
) -> None:
    content = {f"00{n % 3}_k{n}": b"%d" % n * 10_000 for n in range(90)}
    for name, value in content.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(value)
    shared.put_tree(tmp_path / "in", f"sm://{bucket}/")
    root = fleet.root_of(shared.inventory, "h0")
    for number in range(2):
        fleet.await_process(root, "listener")
        arrived = itertools.count(1)

        def kill_once(_count: int, _size: int, arrived: itertools.count[int] = arrived) -> None:
            if next(arrived) == after:
                fleet.kill(fleet.process_of(root, "listener"))

        result = shared.get_tree(f"sm://{bucket}/", tmp_path / str(number), report=kill_once)
        assert result.fresh == len(content)
        assert {file.name: file.read_bytes() for file in files_below(tmp_path / str(number))} == content


@pytest.mark.parametrize("after", [1, 20, 70])
def test_copy_in_loses_nothing_when_the_listener_of_a_host_is_killed(
    shared: Cluster, bucket: str, tmp_path: Path, after: int
) -> None:
    content = {f"00{n % 3}_k{n}": b"%d" % n * 10_000 for n in range(90)}
    (tmp_path / "in").mkdir()
    for name, value in content.items():
        (tmp_path / "in" / name).write_bytes(value)
    root = fleet.root_of(shared.inventory, "h0")
    for number in range(2):
        fleet.await_process(root, "listener")
        arrived = itertools.count(1)

        def kill_once(_count: int, _size: int, arrived: itertools.count[int] = arrived) -> None:
            if next(arrived) == after:
                fleet.kill(fleet.process_of(root, "listener"))

        result = shared.put_tree(tmp_path / "in", f"sm://{bucket}/{number}/", report=kill_once)
        assert result.fresh + result.kept == len(content)
        shared.get_tree(f"sm://{bucket}/{number}/", tmp_path / str(number))
        assert {file.name: file.read_bytes() for file in files_below(tmp_path / str(number))} == content
