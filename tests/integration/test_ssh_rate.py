"""Fan-out files leave a host no faster than the run is allowed to send."""

from __future__ import annotations

import time

from sshmap import Cluster
from sshmap.limits import Limits
from tests import sshd
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts
SIZE, RATE = 3_000_000, 1_500_000


def test_files_take_as_long_as_the_rate_says(sshd_hosts: SshdHosts) -> None:
    sshd_hosts.add(2)
    with Cluster(sshd_hosts.inventory()) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://b/in/000_k")
        command = f"head -c {SIZE} /dev/zero > 001_a; echo 001_a"
        began = time.monotonic()
        cluster.fanout("sm://b/in/", "sm://b/slow/", command, limits=Limits(rate=RATE))
        slow = time.monotonic() - began
        # how long it takes at least is certain; how long at most depends on the machine
        assert slow >= SIZE / RATE
        assert len(cluster.get("sm://b/slow/000_k/001_a")) == SIZE
