"""A newer sshmap on the laptop: the code on the hosts is replaced, what they had to do is not lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sshmap import Cluster
from sshmap.store.layout import Root
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts

KEYS = 20


def newer(top: Path) -> Path:
    """Copy the package and change it a little; return what has to be on the import path."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(fleet.PACKAGE / "sshmap", top / "newer" / "sshmap", ignore=ignore)
    with (top / "newer" / "sshmap" / "model.py").open("a", encoding="utf-8") as file:
        file.write("\n# newer\n")
    return top / "newer"


def run_newer(path: Path, inventory: Path, *arguments: str) -> str:
    """Run the changed package's command line; return what it says."""
    argv = [sys.executable, "-m", "sshmap", "-i", str(inventory), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_new_code_replaces_the_daemon_and_keeps_what_is_queued(sshd_hosts: SshdHosts, tmp_path: Path) -> None:
    roots = [Root(host.root) for host in sshd_hosts.add(2)]
    inventory = sshd_hosts.write(sshd_hosts.inventory("openssh"))
    gate, runs = tmp_path / "gate", tmp_path / "runs"
    runs.mkdir()
    command = f"echo x >> {runs}/$SSHMAP_NAME; until [ -e {gate} ]; do read -rt 0.02 <> <(:) || true; done; tr a-z A-Z"
    job = ("map", "sm://in/", "sm://out/", command)
    with Cluster(inventory) as cluster:
        assert cluster.up()[1] == {}
        for number in range(KEYS):
            cluster.put(b"content %d" % number, f"sm://in/k{number}")
    with fleet.start_sshmap(inventory, *job) as client:
        wait_until(lambda: len(list(runs.iterdir())) >= 2, what="tasks run")
        fleet.kill(client.pid)
    daemons, codes = [fleet.daemon_of(root) for root in roots], [os.listdir(root.runtime) for root in roots]
    path = newer(tmp_path)
    assert "up: h0" in run_newer(path, inventory, "up")
    assert all(fleet.daemon_of(root) not in (0, *daemons) for root in roots)
    for root, code in zip(roots, codes, strict=True):
        assert len(os.listdir(root.runtime)) == 1
        assert os.listdir(root.runtime) != code
    gate.touch()
    assert f"{KEYS} ok" in run_newer(path, inventory, *job) or f"{KEYS} kept" in run_newer(path, inventory, *job)
    with Cluster(inventory) as cluster:
        found = {number: cluster.get(f"sm://out/k{number}") for number in range(KEYS)}
    assert found == {number: b"CONTENT %d" % number for number in range(KEYS)}
    assert all(file.read_text().count("x") <= 2 for file in runs.iterdir())
