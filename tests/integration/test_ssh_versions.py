"""Hosts of other versions of Python than the laptop's: their code is fetched for them, and they work as one cluster."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.functions import Input, Output
from sshmap.inventory import Inventory
from tests import sshd
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts

#: read at import: tests have a home of their own
HOME = Path.home()
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


def version_of(rows: Input, out: Output) -> None:
    msgspec = importlib.import_module("msgspec")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    out.write(f"{version} {msgspec.json.decode(b'1')} {msgspec.__file__}")


def other_pythons() -> dict[str, str]:
    """Return the supported Pythons of this machine that are not of this version."""
    environment = {"HOME": str(HOME), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        [fleet.PACKAGE / ".ci" / "pythons"], env=environment, capture_output=True, text=True, check=True
    )
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    return {version: path for version, path in found.items() if version != OWN}


@pytest.mark.extra
@pytest.mark.slow
def test_hosts_with_other_pythons_work_together(sshd_hosts: SshdHosts) -> None:
    others = other_pythons()
    if not others:
        pytest.skip("there is no other supported Python here")
    pythons = [sys.executable, *others.values()]
    hosts = tuple(
        sshd_hosts.host(host, python=python) for host, python in zip(sshd_hosts.add(len(pythons)), pythons, strict=True)
    )
    with Cluster(Inventory(hosts=hosts, origin="test")) as cluster:
        statuses, failures = cluster.up()
        assert failures == {}
        assert [status.platform[0] for status in statuses.values()] == [OWN, *others]
        for number in range(20):
            cluster.put(b"%d" % number, f"sm://in/{number:02}_k")
        assert cluster.map("sm://in/", "sm://mapped/", "cat; echo -n x").done == 20
        assert cluster.fanout("sm://mapped/", "sm://out/", 'cat > "a"; cp a b; echo a; echo b').done == 20
        assert cluster.merge("sm://out/", "sm://merged/", "xargs cat").failed == 0
        assert cluster.get("sm://merged/a") == cluster.get("sm://merged/b") == b"".join(b"%dx" % n for n in range(20))
        assert cluster.up()[1] == {}
        # of a compiled package, each gets the wheel for its version
        cluster.map("sm://in/", "sm://versions/", version_of, packages=["msgspec>=0.19"])
        found = {cluster.get(row).decode() for row in cluster.where("sm://versions/")}
        assert {text.split()[0] for text in found} == {OWN, *others}
        assert all(".packages/msgspec/" in text for text in found)
