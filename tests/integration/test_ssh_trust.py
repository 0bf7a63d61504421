"""Host keys: what is unknown or has changed is refused before anything is sent, from the laptop and between hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.errors import HostKeyRefused, HostLost, HostNotReady
from sshmap.inventory import Inventory
from tests import sshd
from tests.integration import fleet
from tests.sshd import TRANSPORTS, Sshd, SshdHosts, fingerprint_of, make_key, user_name

sshd_hosts = sshd.sshd_hosts


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """How the laptop reaches the hosts."""
    return str(request.param)


def refusal(inventory: Inventory) -> HostKeyRefused:
    """Bring a host up that has to be refused, and return why."""
    with Cluster(inventory) as cluster:
        statuses, failures = cluster.up()
    ((name, error),) = failures.items()
    assert (statuses, name) == ({}, inventory.hosts[0].name)
    assert isinstance(error, HostKeyRefused), error
    return error


def assert_untouched(host: Sshd) -> None:
    """See that a host was neither logged in to nor changed."""
    assert (host.sessions, host.log.count("Accepted")) == ([], 0)
    assert sorted(str(path.relative_to(host.home)) for path in host.home.rglob("*")) == [".ssh", ".ssh/authorized_keys"]


def reach(inventory: Inventory) -> None:
    """Log in to a host on which `up` was not run: that it says so proves that its key was accepted."""
    with Cluster(inventory) as cluster, pytest.raises(HostNotReady, match="cannot be started"):
        cluster.put(b"", "sm://b/k")


def test_unknown_host_key_is_refused_with_its_fingerprint(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add(known=False)
    error = refusal(sshd_hosts.inventory(transport))
    assert "unknown" in error.message
    assert error.hint == "sshmap trust"
    assert transport == "openssh" or fingerprint_of(host.host_key) in error.message
    assert_untouched(host)


def test_changed_host_key_is_refused_with_both_fingerprints(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add()
    before = fingerprint_of(host.host_key)
    host.renew_host_key()
    error = refusal(sshd_hosts.inventory(transport))
    assert "changed" in error.message
    assert fingerprint_of(host.host_key) in error.message
    assert transport == "openssh" or before in error.message
    assert_untouched(host)


def test_refusal_names_the_host_as_the_inventory_does(sshd_hosts: SshdHosts, transport: str) -> None:
    sshd_hosts.add(known=False)
    assert refusal(sshd_hosts.inventory(transport)).host == "h0"


def test_key_of_another_kind_than_the_known_one_is_refused(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add()
    host.stop()
    make_key(host.host_key, "ecdsa")
    host.start()
    refusal(sshd_hosts.inventory(transport))
    assert_untouched(host)


VERBS = [("ls", "sm://"), ("up",), ("exec", "true"), ("map", "sm://a/", "sm://b/", "cat"), ("down", "--purge", "-y")]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_no_verb_goes_past_an_unknown_host_key(sshd_hosts: SshdHosts, verb: tuple[str, ...]) -> None:
    (host,) = sshd_hosts.add(known=False)
    path = sshd_hosts.write(sshd_hosts.inventory())
    code, out, err = fleet.sshmap(path, *verb)
    assert (code, out) == (3, b"")
    assert fingerprint_of(host.host_key) in err.decode()
    assert f"hint: sshmap -i {path} trust\n" in err.decode()
    assert b"Traceback" not in err
    assert_untouched(host)


@pytest.mark.parametrize("hop", [0, 1])
def test_unknown_key_of_a_gateway_is_refused(sshd_hosts: SshdHosts, transport: str, hop: int) -> None:
    *hops, target = sshd_hosts.add(3)
    sshd_hosts.known_hosts.write_text(
        "".join(host.known_line for host in sshd_hosts.hosts if host is not hops[hop]), encoding="utf-8"
    )
    gateway = ",".join(f"{user_name()}@127.0.0.1:{host.port}" for host in hops)
    refusal(sshd_hosts.inventory(transport, [target], gateway=gateway))
    for host in (hops[hop], target):
        assert_untouched(host)


def by_inventory(hosts: SshdHosts, transport: str) -> Inventory:
    """Have the inventory lead through all hosts to the last."""
    *hops, target = hosts.hosts
    gateway = ",".join(f"{user_name()}@127.0.0.1:{host.port}" for host in hops)
    return hosts.inventory(transport, [target], gateway=gateway)


def by_ssh_config(hosts: SshdHosts, transport: str) -> Inventory:
    """Have ssh_config lead through all hosts to the last, each one naming only the one before it."""
    lines = [f"Host way{number}\nHostName 127.0.0.1\nPort {host.port}" for number, host in enumerate(hosts.hosts)]
    lines[1:] = [f"{line}\nProxyJump way{number}" for number, line in enumerate(lines[1:])]
    with hosts.ssh_config.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return hosts.inventory(transport, hosts.hosts[-1:], address=f"way{len(lines) - 1}")


WAYS = pytest.mark.parametrize("way", [by_inventory, by_ssh_config], ids=["inventory", "ssh_config"])
Way = Callable[[SshdHosts, str], Inventory]


@WAYS
@pytest.mark.parametrize("hop", [0, 1])
def test_ssh_config_cannot_let_an_unknown_gateway_in(sshd_hosts: SshdHosts, transport: str, hop: int, way: Way) -> None:
    hosts = sshd_hosts.add(3)
    config = sshd_hosts.ssh_config.read_text(encoding="utf-8")
    sshd_hosts.ssh_config.write_text(f"StrictHostKeyChecking no\n{config}", encoding="utf-8")
    known = [host.known_line for host in hosts if host is not hosts[hop]]
    sshd_hosts.known_hosts.write_text("".join(known), encoding="utf-8")
    refusal(way(sshd_hosts, transport))
    for host in (hosts[hop], hosts[2]):
        assert_untouched(host)
    assert sshd_hosts.known_hosts.read_text(encoding="utf-8") == "".join(known)


@WAYS
def test_known_gateways_are_gone_through_in_order(sshd_hosts: SshdHosts, transport: str, way: Way) -> None:
    hosts = sshd_hosts.add(3)
    reach(way(sshd_hosts, transport))
    assert all(host.log.count("Accepted publickey") for host in hosts)
    assert [bool(host.sessions) for host in hosts] == [False, False, True]


def test_paths_reach_every_hop_as_they_are(sshd_hosts: SshdHosts, transport: str) -> None:
    sshd_hosts.add(3)
    odd = sshd_hosts.top / "it's $HOME; `key`"
    sshd_hosts.identity.rename(odd)
    inventory = by_inventory(sshd_hosts, transport)
    reach(
        msgspec.structs.replace(inventory, hosts=(msgspec.structs.replace(inventory.hosts[0], identity_file=str(odd)),))
    )


def test_ssh_config_that_leads_in_a_circle_is_an_error(sshd_hosts: SshdHosts, transport: str) -> None:
    sshd_hosts.add()
    with sshd_hosts.ssh_config.open("a", encoding="utf-8") as file:
        file.write("Host round\nProxyJump about\nHost about\nProxyJump round\n")
    with Cluster(sshd_hosts.inventory(transport, address="round")) as cluster:
        ((_, error),) = cluster.up()[1].items()
    assert isinstance(error, HostLost)
    assert "circle" in error.hint


def rewrite_known(hosts: SshdHosts, line: str) -> None:
    """Put one line in place of what the laptop's known_hosts holds; {key} and {port} are those of the only host."""
    (host,) = hosts.hosts
    _, kind, key = host.known_line.split()
    hosts.known_hosts.write_text(line.format(key=f"{kind} {key}", port=host.port) + "\n", encoding="utf-8")


def test_hashed_known_hosts_is_understood(sshd_hosts: SshdHosts, transport: str) -> None:
    sshd_hosts.add()
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(sshd_hosts.known_hosts)], check=True, capture_output=True)
    assert "127.0.0.1" not in sshd_hosts.known_hosts.read_text(encoding="utf-8")
    reach(sshd_hosts.inventory(transport))


@pytest.mark.parametrize(
    "line", ["[127.0.0.*]:{port} {key}", "[127.0.0.1]:*,[other]:22 {key} comment", "*,![10.0.0.1]:{port} {key}"]
)
def test_pattern_in_known_hosts_is_understood(sshd_hosts: SshdHosts, transport: str, line: str) -> None:
    sshd_hosts.add()
    rewrite_known(sshd_hosts, line)
    reach(sshd_hosts.inventory(transport))


def test_host_key_alias_is_understood(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add()
    with sshd_hosts.ssh_config.open("a", encoding="utf-8") as file:
        file.write("HostKeyAlias alias.example\n")
    # ssh looks up an alias without the port
    rewrite_known(sshd_hosts, "alias.example {key}")
    reach(sshd_hosts.inventory(transport))
    assert host.log.count("Accepted publickey")


@pytest.mark.parametrize("marker", ["@revoked", "@cert-authority"])
def test_form_that_only_openssh_can_judge_is_refused_and_never_passed_over(
    sshd_hosts: SshdHosts, transport: str, marker: str
) -> None:
    (host,) = sshd_hosts.add()
    rewrite_known(sshd_hosts, f"{marker} [127.0.0.1]:{{port}} {{key}}")
    error = refusal(sshd_hosts.inventory(transport))
    assert transport == "openssh" or 'transport = "openssh"' in error.hint
    assert_untouched(host)


def test_trust_shows_fingerprints_and_writes_known_hosts_once(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add(known=False)
    inventory = sshd_hosts.write(sshd_hosts.inventory(transport))
    code, out, _ = fleet.sshmap(inventory, "trust", "-y")
    assert (code, fingerprint_of(host.host_key) in out.decode()) == (0, True)
    assert sshd_hosts.known_hosts.read_text(encoding="utf-8") == host.known_line
    code, out, err = fleet.sshmap(inventory, "trust", "-y")
    assert (code, out, b"known already" in err) == (0, b"", True)
    assert sshd_hosts.known_hosts.read_text(encoding="utf-8") == host.known_line
    assert_untouched(host)
    reach(sshd_hosts.inventory(transport))


def test_trust_writes_nothing_without_a_yes(sshd_hosts: SshdHosts) -> None:
    sshd_hosts.add(known=False)
    code, _, err = fleet.sshmap(sshd_hosts.write(sshd_hosts.inventory()), "trust")
    assert (code != 0, b"Traceback" in err) == (True, False)
    assert sshd_hosts.known_hosts.read_text(encoding="utf-8") == ""


def test_trust_does_not_replace_a_changed_key(sshd_hosts: SshdHosts) -> None:
    (host,) = sshd_hosts.add()
    before, known = fingerprint_of(host.host_key), sshd_hosts.known_hosts.read_bytes()
    host.renew_host_key()
    code, _, err = fleet.sshmap(sshd_hosts.write(sshd_hosts.inventory()), "trust", "-y")
    assert code == 3
    assert before in err.decode()
    assert fingerprint_of(host.host_key) in err.decode()
    assert sshd_hosts.known_hosts.read_bytes() == known


@pytest.fixture
def peers(sshd_hosts: SshdHosts) -> SshdHosts:
    """Two hosts that are up; the second has come back with another host key since, which the laptop was told of and the first host was not."""
    _, other = sshd_hosts.add(2)
    with Cluster(sshd_hosts.inventory("openssh")) as cluster:
        assert cluster.up()[1] == {}
        cluster.put(b"content", "sm://b/in/000_a")
    other.renew_host_key()
    sshd_hosts.know(other)
    return sshd_hosts


SHUFFLE = ("sm://b/in/", "sm://b/out/", "echo x > 001_x; echo 001_x")


def from_peers(host: Sshd) -> int:
    """Count the logins that a host had from its peers."""
    return sum("forced-command" in line for line in host.sessions)


def test_changed_key_of_a_peer_is_refused_and_not_relayed_around_until_up_tells_the_new_one(peers: SshdHosts) -> None:
    other = peers.hosts[1]
    inventory = peers.inventory("openssh")
    with Cluster(inventory) as cluster, pytest.raises(JobFailed) as failed:
        cluster.fanout(*SHUFFLE)
    assert (failed.value.exit_code, failed.value.host) == (3, "h1")
    assert isinstance(failed.value.result.lost["h1"], HostLost)
    assert "host key" in failed.value.message, failed.value
    assert from_peers(other) == 0
    with Cluster(inventory) as cluster:
        assert [*cluster.ls("sm://b/out/", recursive=True)] == []
        assert cluster.up()[1] == {}
        cluster.fanout(*SHUFFLE)
        assert cluster.get("sm://b/out/000_a/001_x") == b"x\n"
    assert from_peers(other) > 0


def test_accounts_on_one_machine_are_asked_for_its_keys_once(sshd_hosts: SshdHosts) -> None:
    """A machine whose sshd lets few connections wait would drop some of those that ask for each account."""
    (machine,) = sshd_hosts.add(config=["MaxStartups 5"], known=False)
    hosts = tuple(
        msgspec.structs.replace(sshd_hosts.host(machine), name=f"account{n}", root=f"~/.sshmap{n}") for n in range(8)
    )
    path = sshd_hosts.write(Inventory(hosts=hosts, origin="test"))
    code, out, err = fleet.sshmap(path, "trust", "-y")
    assert (code, err.count(b": known already\n")) == (0, 7), err
    assert fingerprint_of(machine.host_key) in out.decode()
    assert len(sshd_hosts.known_hosts.read_text().splitlines()) == 1
