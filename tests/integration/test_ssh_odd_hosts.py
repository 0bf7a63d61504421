"""Hosts as they are in the wild: noisy, picky, far away, with the wrong Python first. `ssh HOST` works, so sshmap has to."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.bootstrap import find_python
from sshmap.errors import HostLost, HostNotReady
from sshmap.inventory import Inventory
from sshmap.inventory.loading import DEFAULT_ROOT
from sshmap.transport.channel import Channel
from sshmap.transport.dial import open_command
from tests import sshd
from tests.integration import fleet
from tests.sshd import TRANSPORTS, Sshd, SshdHosts, user_name

sshd_hosts, make_sshd_hosts = sshd.sshd_hosts, sshd.make_sshd_hosts

NOISE = (
    "echo 'Welcome to h0!'; echo 'sshmap 0123456789abcdef0123456789abcdef'; printf 'no end of line'; echo oops >&2\n"
)
#: a login at a time, and a few tries before it
PICKY = ["MaxStartups 2:100:3", "MaxSessions 1", "LoginGraceTime 10"]
AT_ONCE = 6
TOO_OLD = "echo 3 9 3.34.1 x86_64 glibc"


class OddHosts:
    """One host per oddity, all brought up at once, and what came of it."""

    def __init__(self, hosts: SshdHosts) -> None:
        self.hosts = hosts
        (self.noisy,) = hosts.add(bashrc=NOISE)
        (self.picky,) = hosts.add(config=PICKY)
        (self.rekeying,) = hosts.add(config=["RekeyLimit 1M", "KexAlgorithms ecdh-sha2-nistp256"])
        (self.far,) = hosts.add()
        (self.mixed,) = hosts.add(environment={"PATH": mixed_pythons(hosts.top / "bin")})
        (self.moving,) = hosts.add(bashrc="cd /\n")
        with Cluster(
            Inventory(hosts=tuple(self.inventory(host, "fabric").hosts[0] for host in hosts.hosts), origin="test")
        ) as cluster:
            self.statuses, self.failures = cluster.up()

    def inventory(self, host: Sshd, transport: str) -> Inventory:
        """Return an inventory in which a host keeps its place and the others are left out of the way."""
        gateway = (
            {"gateway": f"{user_name()}@127.0.0.1:{self.noisy.port},{user_name()}@127.0.0.1:{self.picky.port}"}
            if host is self.far
            else {}
        )
        # where the login starts elsewhere than in the home directory, with the root that is the default
        fields = {"root": DEFAULT_ROOT} if host is self.moving else gateway
        return self.hosts.inventory(transport, [host], **fields)

    def cluster(self, host: Sshd, transport: str) -> Cluster:
        """Open a cluster of one host; it holds no data yet, so it may be reached under a ring of its own."""
        assert host.name not in self.failures, self.failures[host.name]
        return Cluster(self.inventory(host, transport))


def script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def mixed_pythons(top: Path) -> str:
    """Return a PATH with Pythons that are too old, broken and talkative before one that is right."""
    script(top / "bad" / "python3", TOO_OLD)
    script(top / "bad" / "python", "echo 'command not found: python; try one two' >&2; exit 127")
    script(top / "good" / f"python3.{sys.version_info.minor}", f'exec {sys.executable} "$@"')
    return f"{top}/bad:{top}/good:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def odd(make_sshd_hosts: Callable[[], SshdHosts]) -> OddHosts:
    """The odd hosts, shared by the tests below."""
    return OddHosts(make_sshd_hosts())


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """How the laptop reaches the hosts."""
    return str(request.param)


def test_all_odd_hosts_come_up(odd: OddHosts) -> None:
    assert odd.failures == {}


def test_noise_of_a_login_shell_does_no_harm(odd: OddHosts, transport: str) -> None:
    content = os.urandom(300_000)
    with odd.cluster(odd.noisy, transport) as cluster:
        cluster.put(content, f"sm://{transport}/k")
        assert cluster.get(f"sm://{transport}/k") == content
        (said,) = cluster.exec("echo out").values()
        assert said.stdout == b"out\n"


def test_default_root_is_found_where_a_login_starts_elsewhere(odd: OddHosts, transport: str) -> None:
    with odd.cluster(odd.moving, transport) as cluster:
        cluster.put(b"content", f"sm://{transport}/k")
        assert cluster.map(f"sm://{transport}/", f"sm://{transport}-out/", "cat; pwd >&2").done == 1
        (said,) = cluster.exec("pwd").values()
        assert said.exit_code == 0
    assert (odd.moving.root / "ledger.db").exists()


def use(odd: OddHosts, host: Sshd, transport: str, number: int, problems: list[BaseException]) -> None:
    """Put a key and read it back over a connection of its own."""
    try:
        with odd.cluster(host, transport) as cluster:
            cluster.put(b"content", f"sm://{transport}/k{number}")
            assert cluster.get(f"sm://{transport}/k{number}") == b"content"
    except BaseException as exc:  # noqa: BLE001  # shown by the test's own thread
        problems.append(exc)


def test_server_that_drops_early_connections_is_tried_again(odd: OddHosts, transport: str) -> None:
    problems: list[BaseException] = []
    threads = [
        threading.Thread(target=use, args=(odd, odd.picky, transport, number, problems)) for number in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_long_stream_passes_many_rekeyings(odd: OddHosts, transport: str) -> None:
    content = os.urandom(1 << 20) * 50
    with odd.cluster(odd.rekeying, transport) as cluster:
        cluster.put(content, f"sm://{transport}/k")
        assert cluster.get(f"sm://{transport}/k") == content


def test_host_behind_two_gateways_is_reached_through_both(odd: OddHosts, transport: str) -> None:
    def logins() -> list[int]:
        return [host.log.count("Accepted publickey") for host in (odd.noisy, odd.picky, odd.far)]

    before = logins()
    with odd.cluster(odd.far, transport) as cluster:
        cluster.put(b"content" * 100_000, f"sm://{transport}/k")
        assert cluster.get(f"sm://{transport}/k") == b"content" * 100_000
    assert [now - then for then, now in zip(before, logins(), strict=True)] == [1, 1, 1]


def test_right_python_is_found_behind_wrong_ones(odd: OddHosts) -> None:
    assert odd.mixed.name not in odd.failures, odd.failures[odd.mixed.name]
    assert odd.statuses[odd.mixed.name].platform[0] == platform.python_version().rpartition(".")[0]
    assert str(odd.hosts.top / "bin" / "bad") not in (odd.mixed.root / "agent").read_text(encoding="utf-8")


BAD_PYTHONS = {
    "too old": (TOO_OLD, "{path} is 3.9 with SQLite 3.34.1"),
    "does not start": ("exit 127", "{path} does not start"),
    "says something else": ("echo this is no interpreter really", "{path}"),
    "has an odd version": ("echo 3 12 3.45.1-dev x86_64 glibc", "{path}"),
}


@pytest.mark.parametrize("kind", BAD_PYTHONS)
def test_wrong_python_is_named_with_what_is_wrong(sshd_hosts: SshdHosts, kind: str, transport: str) -> None:
    (host,) = sshd_hosts.add()
    text, said = BAD_PYTHONS[kind]
    path = sshd_hosts.top / "python3"
    script(path, text)
    with pytest.raises(HostNotReady) as refused:
        find_python(sshd_hosts.host(host, transport, python=str(path)))
    assert said.format(path=path) in refused.value.message
    assert "python = " in refused.value.hint


@pytest.mark.parametrize("end", ["\\n", ""], ids=["lines", "one line"])
def test_host_that_prints_too_much_is_refused_with_what_it_prints(
    sshd_hosts: SshdHosts, transport: str, end: str
) -> None:
    (host,) = sshd_hosts.add(bashrc=f"for n in {{1..9000}}; do printf 'blah blah{end}'; done\n")
    inventory = sshd_hosts.write(sshd_hosts.inventory(transport))
    code, _, err = fleet.sshmap(inventory, "up")
    assert (code, b"blah blah" in err, b"start-up files" in err, b"h0" in err) == (3, True, True, True), err
    assert not host.root.exists()


SHELL_END = {"exit": "echo goodbye; exit 5\n", "kill": "echo goodbye; kill -9 $$\n"}


@pytest.mark.parametrize("kind", SHELL_END)
def test_login_shell_that_ends_at_once_is_quoted(sshd_hosts: SshdHosts, transport: str, kind: str) -> None:
    sshd_hosts.add(bashrc=SHELL_END[kind])
    with Cluster(sshd_hosts.inventory(transport)) as cluster:
        _, failures = cluster.up()
    error = failures["h0"]
    assert (error.exit_code, "goodbye" in error.message) == (3, True), error


def test_login_shell_that_ends_without_a_word_is_looked_for_in_its_start_up_files(
    sshd_hosts: SshdHosts, transport: str
) -> None:
    sshd_hosts.add(bashrc="exit 1\n")
    inventory = sshd_hosts.write(sshd_hosts.inventory(transport))
    for arguments in (["up"], ["ls"], ["doctor"]):
        code, out, err = fleet.sshmap(inventory, *arguments)
        assert (code, b"exit 1 before" in out + err, b".bashrc" in out + err) == (3, True, True), (arguments, out, err)


def test_host_that_ends_while_it_is_written_to_is_quoted(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add()
    channel = open_command(sshd_hosts.host(host, transport), ["sh", "-c", "echo goodbye; exit 5"])
    with contextlib.closing(channel), pytest.raises(HostLost, match="goodbye"):
        talk_on(channel)


def talk_on(channel: Channel) -> None:
    while True:
        channel.send(b"hello")


@pytest.mark.parametrize("config", ["ForceCommand /bin/false", "DenyUsers *", "PubkeyAuthentication no"])
def test_login_that_is_not_allowed_is_named_within_the_limit(
    sshd_hosts: SshdHosts, transport: str, config: str
) -> None:
    sshd_hosts.add(config=[config])
    with Cluster(sshd_hosts.inventory(transport)) as cluster:
        _, failures = cluster.up()
    error = failures["h0"]
    assert (error.exit_code, "login" in error.message) == (3, config != "ForceCommand /bin/false"), error


def test_failure_to_set_a_host_up_names_it(sshd_hosts: SshdHosts, transport: str) -> None:
    sshd_hosts.add(config=["DenyUsers *"])
    sshd_hosts.add(bashrc="exit 5\n")
    with Cluster(sshd_hosts.inventory(transport, python="/nowhere/python3")) as cluster:
        _, failures = cluster.up()
    assert {name: error.host for name, error in failures.items()} == {"h0": "h0", "h1": "h1"}
