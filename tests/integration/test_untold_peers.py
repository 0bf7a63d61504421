"""A fan-out whose client loses a host before that was told of it: the others' files for it wait, and the job ends saying so."""

from __future__ import annotations

import time
from typing import Literal

import pytest

from sshmap import Cluster
from sshmap.client import conversations
from sshmap.client.job_results import JobFailed
from sshmap.errors import HostLost
from sshmap.inventory import Host, Inventory
from sshmap.transport.channel import Channel
from sshmap.transport.dial import dial
from tests.cutting import in_time

SPREAD = "for n in 0 1 2; do cat > 00${n}_x; echo 00${n}_x; done"


@pytest.mark.parametrize("shuffle", ["auto", "direct"])
def test_job_ends_though_a_peer_lets_its_couriers_in_and_refuses_their_files(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, shuffle: Literal["auto", "direct"]
) -> None:
    lost = False

    def sometimes(host: Host, **options: bool) -> Channel:
        if lost and host.name == "h2":
            raise HostLost("refused")
        return dial(host, **options)

    monkeypatch.setattr(conversations, "dial", sometimes)
    told = Inventory(hosts=inventory.hosts, origin="test", shuffle=shuffle)
    with Cluster(told) as cluster:
        cluster.up()
        for number in range(3):
            cluster.put(b"x", f"sm://b/{number:03}_k")
    lost = True
    began = time.monotonic()
    with Cluster(told) as cluster:
        outcome = in_time(lambda: cluster.fanout("sm://b/", "sm://o/", SPREAD))
        assert isinstance(outcome, JobFailed), outcome
        assert (outcome.exit_code, [*outcome.result.lost]) == (3, ["h2"])
        assert time.monotonic() - began < 25
        lost = False
        result = cluster.fanout("sm://b/", "sm://o/", SPREAD)
        assert (result.failed, [row.path for row in cluster.where("sm://o/")]) == (
            0, [f"o/{k:03}_k/{n:03}_x" for k in range(3) for n in range(3)],
        )  # fmt: skip
