"""Keys are swapped again and again while everything else reads them: no healthy key is ever called damaged."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sshmap import Cluster
from sshmap.client.results import JobFailed
from sshmap.inventory import Inventory

KEYS, SMALL, LARGE = 40, 2_000, 600_000
#: seconds; set the variable for a longer run
SPAN = float(os.environ.get("SWAPPING_SECONDS", "6"))


def is_one_of_those_put(content: bytes) -> bool:
    """Whether content is all of one round: the same line over and over, of one of the two lengths."""
    line, _, _ = content.partition(b"\n")
    lines = content.split(b"\n")
    return line.startswith(b"round ") and set(lines[:-1]) == {line} and len(lines) - 1 in (SMALL // 10, LARGE // 10)


def test_reading_keys_while_they_are_swapped_is_no_error(
    inventory: Inventory, cluster: Cluster, tmp_path: Path
) -> None:
    """By `get`, `cp -r`, `eval` and `map`; each content that is seen is one of those that were put."""
    for number in range(KEYS):
        size = LARGE if number % 8 == 0 else SMALL
        cluster.put(b"%d" % (size // 10), f"sm://b/in/k{number}")
    rounds = itertools.count(100)

    def swap(mine: Cluster) -> None:
        line = f"round {next(rounds)}"
        # awk so that one write is not the whole content
        mine.map("sm://b/in/", "sm://b/out/", f"awk '{{ for (n = 0; n < $1; n++) print \"{line}\" }}'", replace=True)

    def get(mine: Cluster) -> None:
        for number in (0, 1, 8, 9):
            assert is_one_of_those_put(mine.get(f"sm://b/out/k{number}"))

    def copy(mine: Cluster) -> None:
        mine.get_tree("sm://b/out/", tmp_path / "copy")
        assert all(is_one_of_those_put(path.read_bytes()) for path in (tmp_path / "copy").iterdir())
        shutil.rmtree(tmp_path / "copy")

    def evaluate(mine: Cluster) -> None:
        for number in (0, 1):
            out = io.BytesIO()
            assert mine.eval(f"sm://b/out/k{number}", "cat", out, io.BytesIO()) == 0
            assert is_one_of_those_put(out.getvalue())

    def compute(mine: Cluster) -> None:
        try:
            mine.map("sm://b/out/", "sm://b/end/", f"cat # {time.monotonic()}", replace=True)
        except JobFailed as exc:
            # what was swapped after the job was planned is refused, and nothing else
            assert {failure.kind for failure in exc.result.failures} == {"Refused"}, exc.result.failures

    cluster.up()
    swap(cluster)
    failures: list[BaseException] = []
    turns: dict[str, int] = {}

    def repeat(work: Callable[[Cluster], None]) -> None:
        deadline = time.monotonic() + SPAN
        with Cluster(inventory) as mine:
            while time.monotonic() < deadline and not failures:
                try:
                    work(mine)
                except BaseException as exc:  # noqa: BLE001  # raised again by the thread that waits
                    failures.append(exc)
                turns[work.__name__] = turns.get(work.__name__, 0) + 1

    threads = [threading.Thread(target=repeat, args=(work,)) for work in (swap, get, copy, evaluate, compute)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with contextlib.suppress(IndexError):
        raise failures[0]
    assert min(turns.values()) > 1, turns
