"""`--notify-host` between hosts that log in to each other by ssh: the first one tells, once, also of a host that comes back later."""

from __future__ import annotations

from pathlib import Path

from sshmap import Cluster
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts


def test_first_host_tells_once_when_the_last_one_is_done(sshd_hosts: SshdHosts, tmp_path: Path) -> None:
    sshd_hosts.add(2)
    said, gate = tmp_path / "said", tmp_path / "gate"
    with Cluster(sshd_hosts.inventory(workers=1)) as cluster:
        cluster.up()
        for number in range(4):
            cluster.put(b"x", f"sm://b/in/{number:03}_k")
        held = f"if test $SSHMAP_HOST = h1; then until test -e {gate}; do sleep 0.02; done; fi; cat"
        tell = f'echo "$SSHMAP_HOST $SSHMAP_STATE $SSHMAP_DONE [$SSHMAP_UNKNOWN]" >> {said}'
        cluster.map("sm://b/in/", "sm://b/out/", held, detach=True, notify_host=tell)
        first, second = sshd_hosts.hosts
        wait_until(lambda: cluster.look()[0]["h0"].queued == 0 and len(cluster.look()[0]["h1"].tasks) == 1)
        # the first host is away when the second one wants to tell it
        first.stop()
        gate.touch()
        wait_until(lambda: _is_over(cluster), what="the second host does not finish")
        assert not said.exists()
        first.start()
        wait_until(said.exists, limit=60, what="nobody tells")
        wait_until(lambda: said.read_text().endswith("\n"))
        assert said.read_text() == "h0 done 4 []\n"
        assert fleet.processes_at(second.root)


def _is_over(cluster: Cluster) -> bool:
    """Say whether the second host is done; the first one cannot be asked."""
    seen, _ = cluster.look()
    return "h1" in seen and not seen["h1"].tasks and not seen["h1"].queued
