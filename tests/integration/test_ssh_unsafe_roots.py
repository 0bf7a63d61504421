"""Roots that somebody else made, or could alter, on hosts behind a real sshd: nothing that lies there runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.transport.target import Target
from tests import sshd
from tests.conftest import PLAIN
from tests.integration import fleet
from tests.sshd import TRANSPORTS, SshdHosts, user_name

make_sshd_hosts = sshd.make_sshd_hosts
NOBODY = 65534
VERBS = [("ls",), ("up",), ("down", "--purge", "-y"), ("exec", "true")]


def plant(root: Path, mark: Path) -> Path:
    """Make a root whose launcher leaves a mark when it runs."""
    root.mkdir(mode=0o755)
    launcher = root / "agent"
    launcher.write_text(f"#!/bin/sh\ntouch {mark}\n", encoding="utf-8")
    launcher.chmod(0o755)
    return root


def somebodys(root: Path, mark: Path) -> None:
    """Another user was first to make the root."""
    os.chown(plant(root, mark) / "agent", NOBODY, -1)
    os.chown(root, NOBODY, -1)


def open_to_all(root: Path, mark: Path) -> None:
    """The root is ours, but everybody may put a launcher there."""
    plant(root, mark).chmod(0o777)


def planted(root: Path, mark: Path) -> None:
    """The root was open to all once, when somebody put a launcher there."""
    os.chown(plant(root, mark) / "agent", NOBODY, -1)


def link(root: Path, mark: Path) -> None:
    """A link leads elsewhere."""
    plant(root.with_name("elsewhere"), mark)
    root.symlink_to("elsewhere")


TRAPS = [open_to_all, link] + ([somebodys, planted] if os.geteuid() == 0 else [])


@pytest.fixture(scope="module")
def hosts(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    opened = make_sshd_hosts()
    opened.add()
    return opened


@pytest.fixture
def shared(hosts: SshdHosts) -> Iterator[Path]:
    """A sticky directory that everybody may write to."""
    top = hosts.top / "shared"
    top.mkdir()
    top.chmod(0o1777)
    yield top
    shutil.rmtree(top)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("trap", TRAPS)
def test_launcher_that_somebody_planted_does_not_run(
    hosts: SshdHosts, shared: Path, tmp_path: Path, transport: str, trap: Callable[[Path, Path], None]
) -> None:
    mark, root = tmp_path / "pwned", shared / "root"
    trap(root, mark)
    inventory = hosts.write(hosts.inventory(transport, root=str(root)))
    before = fleet.snapshot(shared)
    for verb in VERBS:
        code, _, err = fleet.sshmap(inventory, *verb)
        assert (code, b"h0" in err, str(root).encode() in err, b"hint: " in err) == (4, True, True, True), (verb, err)
        assert not mark.exists()
    assert fleet.snapshot(shared) == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["open parent", "root"])
def test_up_makes_no_root_where_others_could_alter_it(
    hosts: SshdHosts, shared: Path, transport: str, kind: str
) -> None:
    parent = shared / "parent"
    parent.mkdir()
    parent.chmod(0o777)
    root = parent / "root" if kind == "open parent" else parent
    code, _, err = fleet.sshmap(hosts.write(hosts.inventory(transport, root=str(root))), "up")
    assert (code, f"{parent} can be written to by others".encode() in err) == (4, True), err
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_root_of_our_own_in_a_shared_directory_is_used(hosts: SshdHosts, shared: Path, transport: str) -> None:
    inventory = hosts.inventory(transport, root=str(shared / "root"))
    with Cluster(inventory) as cluster:
        assert cluster.up()[1] == {}
        cluster.put(b"x", "sm://b/k")
        assert cluster.get("sm://b/k") == b"x"
        cluster.down(purge=True)


def test_parent_that_was_opened_since_is_named_by_the_agent(hosts: SshdHosts, shared: Path) -> None:
    parent = shared / "parent"
    parent.mkdir()
    inventory = hosts.write(hosts.inventory(root=str(parent / "root")))
    assert fleet.sshmap(inventory, "up")[0] == 0
    parent.chmod(0o777)
    code, _, err = fleet.sshmap(inventory, "ls")
    assert (code, f"{parent} can be written to by others".encode() in err) == (4, True), err
    parent.chmod(0o755)
    assert fleet.sshmap(inventory, "down", "--purge", "-y")[0] == 0


def test_login_of_a_peer_runs_no_planted_launcher(make_sshd_hosts: Callable[[], SshdHosts], tmp_path: Path) -> None:
    hosts = make_sshd_hosts()
    caller, called = hosts.add(2)
    with Cluster(hosts.inventory()) as cluster:
        assert cluster.up()[1] == {}
        cluster.down()
    shutil.rmtree(called.root)
    open_to_all(called.root, tmp_path / "pwned")
    target = Target(
        address="127.0.0.1", port=called.port, user=user_name(), identity_file=str(caller.root / "ssh" / "key"),
        known_hosts=str(caller.root / "ssh" / "known_hosts"), config="none",
    )  # fmt: skip
    argv = ["ssh", "-T", *target.options(), "--", target.address, "sshmap-peer"]
    done = subprocess.run(argv, capture_output=True, check=False, env=PLAIN, timeout=30)
    assert (done.returncode, b"can be written to by others" in done.stderr) == (77, True), done
    assert not (tmp_path / "pwned").exists()
