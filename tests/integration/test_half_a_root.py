"""A root of which somebody has removed a part by hand: `up` makes it whole, looking at it says what is wrong, `down --purge` ends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.inventory import Inventory
from tests import sshd
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts

#: what is removed of h0, h1 and h2
FOLDERS = [("tmp", "locks", "wake"), ("logs", "shipped", "tmp/outbox"), ("ssh", "data", "locks")]
FILES = [("cluster.json", "ledger.db", "agent.sock")]
LOOKS = [["doctor"], ["health"], ["ls", "-r", "sm://in/"], ["cat", "sm://in/k0"]]


def remove(path: Path) -> None:
    """Remove a directory or a file."""
    # the daemon that still runs may delete from it at the same time
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.fixture
def started(inventory_file: Path, inventory: Inventory) -> Path:
    """An inventory file of hosts that run and hold keys."""
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(6):
            cluster.put(b"content", f"sm://in/k{number}")
    return inventory_file


def remove_parts(inventory: Inventory, parts: tuple[str, ...]) -> None:
    """Remove a part of each host's root."""
    for host, part in zip(inventory.hosts, parts, strict=True):
        remove(Path(host.root) / part)


@pytest.mark.parametrize("parts", FOLDERS, ids=" ".join)
def test_up_makes_a_removed_directory_again(started: Path, inventory: Inventory, parts: tuple[str, ...]) -> None:
    roots = [fleet.root_of(inventory, host.name) for host in inventory.hosts]
    before = [fleet.daemon_of(root) for root in roots]
    remove_parts(inventory, parts)
    code, _, err = fleet.sshmap(started, "up")
    assert code == 0, err
    now = [fleet.daemon_of(root) for root in roots]
    assert not [pid for pid in before if fleet.is_alive(pid) and pid not in now]
    assert fleet.sshmap(started, "map", "sm://in/", "sm://out/", "cat")[0] == (5 if "data" in parts else 0)
    code, _, err = fleet.sshmap(started, "health")
    assert code == 0, err


@pytest.mark.parametrize("parts", [*FOLDERS, *FILES], ids=" ".join)
def test_looking_at_half_a_root_is_no_traceback_and_purge_ends_it(
    started: Path, inventory: Inventory, parts: tuple[str, ...]
) -> None:
    remove_parts(inventory, parts)
    for arguments in LOOKS:
        code, _, err = fleet.sshmap(started, *arguments)
        assert (b"Traceback" in err, code in (0, 1, 3, 5)) == (False, True), (arguments, code, err)
    code, _, err = fleet.sshmap(started, "down", "--purge", "-y")
    assert code == 0, err
    assert not any(Path(host.root).exists() for host in inventory.hosts)
    assert not fleet.processes_at(Path(inventory.hosts[0].root).parent)


def test_purge_of_a_root_that_is_gone_ends_what_still_runs_for_it(started: Path, inventory: Inventory) -> None:
    for host in inventory.hosts:
        shutil.rmtree(host.root)
    code, _, err = fleet.sshmap(started, "down", "--purge", "-y")
    assert code == 0, err
    assert not fleet.processes_at(Path(inventory.hosts[0].root).parent)


def test_ssh_hosts_without_a_part_of_their_root_come_up_and_go_down(sshd_hosts: SshdHosts) -> None:
    parts = ["runtime", "agent", "ssh", "cluster.json", "locks"]
    hosts = sshd_hosts.add(len(parts))
    inventory = sshd_hosts.write(sshd_hosts.inventory("openssh"))
    assert fleet.sshmap(inventory, "up")[0] == 0

    for host, part in zip(hosts, parts, strict=True):
        remove(host.root / part)
    code, _, err = fleet.sshmap(inventory, "up")
    assert code == 0, err
    code, out, err = fleet.sshmap(inventory, "doctor")
    assert (code, out) == (0, b""), err

    for host, part in zip(hosts, [*parts[:-1], "."], strict=True):
        remove(host.root / part)
    code, _, err = fleet.sshmap(inventory, "down", "--purge", "-y")
    assert code == 0, err
    assert not any(host.root.exists() for host in hosts)
    assert not any(b"sshmap:" in host.authorized_keys.read_bytes() for host in hosts[:-1])
    assert not any(fleet.processes_at(host.root) for host in hosts[:-1])
