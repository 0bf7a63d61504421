"""A disk that gets full while a job runs: promise 11."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.functions import Input, Output
from sshmap.inventory import Inventory
from sshmap.model import Verb
from tests.integration import fleet

COMMANDS = {
    Verb.MAP: "for n in 1 2 3; do head -c {size} /dev/zero; done",
    Verb.FANOUT: "for n in 1 2 3; do head -c {size} /dev/zero > ${{n}}_x; echo ${{n}}_x; done",
    Verb.MERGE: "xargs cat; for n in 1 2 3; do head -c {size} /dev/zero; done",
}
KEYS = 150


@pytest.fixture(params=["size=64m", "size=96m,nr_inodes=300"], ids=["space", "inodes"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inventory]:
    """A host on a small file system of its own, which only root can make."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    top = tmp_path / "small"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", str(request.param), "none", str(top)], check=True)
    try:
        yield fleet.local_inventory(top, hosts=1, workers=2)
    finally:
        fleet.end_all_at(top)
        subprocess.run(["umount", "-l", str(top)], check=True)


@pytest.mark.parametrize("verb", list(Verb))
def test_disk_that_gets_full_in_a_job_is_said_at_once_and_freed_by_rm(small: Inventory, verb: Verb) -> None:
    """Every task has its answer, exit 6; keys stay whole; rm works, and other work after it, without a restart."""
    command = COMMANDS[verb].format(size=200_000)
    with Cluster(small) as cluster:
        cluster.up()
        for number in range(KEYS):
            cluster.put(b"%d" % number, f"sm://in/k{number}")
        with pytest.raises(JobFailed) as caught:
            cluster.submit(verb, "sm://in/", "sm://out/", command)
        assert (caught.value.exit_code, {failure.kind for failure in caught.value.result.failures}) == (6, {"NoSpace"})
        assert cluster.get("sm://in/k0") == b"0"
        cluster.rm("sm://out/", recursive=True)
        result = cluster.submit(
            verb, "sm://in/k10*", "sm://small/", COMMANDS[verb].format(size=10).replace("1 2 3", "1")
        )
        assert result.done == 11
        cluster.down()


def fill(rows: Input, out: Output) -> None:
    out.write(bytes(600_000))


def test_disk_that_a_function_fills_is_said_and_freed_by_rm(small: Inventory) -> None:
    with Cluster(small) as cluster:
        cluster.up()
        for number in range(KEYS):
            cluster.put(b"%d" % number, f"sm://in/k{number}")
        with pytest.raises(JobFailed) as caught:
            cluster.map("sm://in/", "sm://out/", fill)
        assert (caught.value.exit_code, {failure.kind for failure in caught.value.result.failures}) == (6, {"NoSpace"})
        assert all(row.size == 600_000 for row in cluster.where("sm://out/"))
        cluster.rm("sm://out/", recursive=True)
        assert cluster.map("sm://in/k10*", "sm://small/", fill).done == 11
        cluster.down()
