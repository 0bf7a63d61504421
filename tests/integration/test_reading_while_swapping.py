"""Keys are swapped again and again while everything else reads them: no healthy key is ever called damaged."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.inventory import Inventory

KEYS = 40
#: lines of a small key, which is read here before it is sent, and of a large one, which is not
SMALL, LARGE = 200, 60_000
#: seconds; set the variable for a longer run
SPAN = float(os.environ.get("SWAPPING_SECONDS", "6"))
#: writes content in several pieces: a line that is new in each round, as often as the input says
COMMAND = """awk '{{ for (n = 0; n < $1; n++) print "round {number}" }}'"""

_rounds = itertools.count(100)


def swap(cluster: Cluster, folder: Path) -> None:
    """Give all keys other content."""
    cluster.map("sm://b/in/", "sm://b/out/", COMMAND.format(number=next(_rounds)), replace=True)


def get(cluster: Cluster, folder: Path) -> None:
    """Read two large keys and two small ones."""
    for number in (0, 1, 8, 9):
        check(cluster.get(f"sm://b/out/k{number}"))


def copy(cluster: Cluster, folder: Path) -> None:
    """Copy all keys out."""
    cluster.get_tree("sm://b/out/", folder / "copy")
    paths = list((folder / "copy").iterdir())
    assert len(paths) == KEYS
    for path in paths:
        check(path.read_bytes())
    shutil.rmtree(folder / "copy")


def evaluate(cluster: Cluster, folder: Path) -> None:
    """Run a command on a large key and a small one."""
    for number in (0, 1):
        out = io.BytesIO()
        assert cluster.eval(f"sm://b/out/k{number}", "cat", out, io.BytesIO()) == 0
        check(out.getvalue())


def compute(cluster: Cluster, folder: Path) -> None:
    """Run a job over all keys; what was swapped after it was planned is refused, and nothing else."""
    kinds = set()
    try:
        cluster.map("sm://b/out/", "sm://b/end/", f"cat # {time.monotonic()}", replace=True)
    except JobFailed as exc:
        kinds = {failure.kind for failure in exc.result.failures}
    assert kinds <= {"Refused"}
    for name in ("k0", "k1"):
        check(cluster.get(f"sm://b/end/{name}"))


def check(content: bytes) -> None:
    """Content is all of one round, and whole."""
    lines = content.split(b"\n")
    assert lines[0].startswith(b"round ")
    assert set(lines[:-1]) == {lines[0]}
    assert len(lines) - 1 in (SMALL, LARGE)


def test_reading_keys_while_they_are_swapped_is_no_error(
    inventory: Inventory, cluster: Cluster, tmp_path: Path
) -> None:
    """By `get`, `cp -r`, `eval` and `map`; each content that is seen is one of those that were put."""
    for number in range(KEYS):
        cluster.put(b"%d" % (SMALL if number % 8 else LARGE), f"sm://b/in/k{number}")
    swap(cluster, tmp_path)
    cluster.map("sm://b/out/", "sm://b/end/", "cat")
    failures: list[BaseException] = []
    turns: dict[str, int] = {}

    def repeat(name: str) -> None:
        deadline = time.monotonic() + SPAN
        with Cluster(inventory) as mine:
            while time.monotonic() < deadline and not failures:
                try:
                    globals()[name](mine, tmp_path)
                except BaseException as exc:  # noqa: BLE001  # raised again by the thread that waits
                    failures.append(exc)
                turns[name] = turns.get(name, 0) + 1

    names = ("swap", "get", "copy", "evaluate", "compute")
    threads = [threading.Thread(target=repeat, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure
    assert min(turns[name] for name in names) > 1, turns
