"""A host that was away when a run was submitted: the run is never called done without it, and what goes on from there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed, JobResult
from sshmap.errors import Refused
from tests import sshd
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts
KEYS = 4
JOB = ("sm://b/in/", "sm://b/out/", "cat; echo made")


@pytest.fixture
def cluster(sshd_hosts: SshdHosts) -> Iterator[Cluster]:
    """Two hosts with two keys each."""
    sshd_hosts.add(2)
    with Cluster(sshd_hosts.inventory()) as opened:
        opened.up()
        for number in range(KEYS):
            opened.put(b"x", f"sm://b/in/{number:03}_k")
        yield opened


def failed(call: object) -> JobResult:
    """Return how far a job came that lost its second host."""
    with pytest.raises(JobFailed) as caught:
        call()  # type: ignore[operator]
    assert (caught.value.exit_code, [*caught.value.result.lost]) == (3, ["h1"])
    return caught.value.result


def test_run_is_incomplete_until_the_host_has_done_its_part(cluster: Cluster, sshd_hosts: SshdHosts) -> None:
    _, second = sshd_hosts.hosts
    second.stop()
    cluster.close()
    assert failed(lambda: cluster.map(*JOB)).done == KEYS // 2
    second.start()
    assert cluster.job().state == "incomplete"
    attached = failed(cluster.attach)
    assert "h1 left out: an unknown number of keys" in attached.lost["h1"].message
    assert attached.done == KEYS // 2
    # what the host was never told, another host's word does not make it run
    with pytest.raises(Refused, match="h1 not told what run"):
        cluster.retry()
    result = cluster.map(*JOB)
    assert (result.done, result.kept) == (KEYS // 2, KEYS // 2)
    assert (cluster.job().state, cluster.attach().done) == ("done", KEYS // 2)


def test_host_that_knows_the_job_from_before_does_its_part_when_the_run_is_tried_again(
    cluster: Cluster, sshd_hosts: SshdHosts
) -> None:
    cluster.map(*JOB)
    cluster.rm("sm://b/out/", recursive=True)
    _, second = sshd_hosts.hosts
    second.stop()
    cluster.close()
    assert failed(cluster.retry).done == KEYS // 2
    second.start()
    result = cluster.retry()
    assert (result.done, result.kept, len(list(cluster.ls("sm://b/out/")))) == (KEYS // 2, KEYS // 2, KEYS)
