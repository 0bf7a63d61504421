"""The doctor before and after `up`, on hosts that have something wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.agent.host import logind
from sshmap.client.results import Finding
from sshmap.store.layout import Root
from tests import sshd
from tests.integration import fleet
from tests.sshd import SshdHosts, tree_state

sshd_hosts, make_sshd_hosts = sshd.sshd_hosts, sshd.make_sshd_hosts


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def findings_of(hosts: SshdHosts, transport: str = "fabric") -> dict[str, list[Finding]]:
    """Ask the doctor and return what it finds by host."""
    found: dict[str, list[Finding]] = {}
    with Cluster(hosts.inventory(transport), autostart=False) as cluster:
        for finding in cluster.doctor():
            found.setdefault(finding.host, []).append(finding)
    return found


@pytest.fixture(scope="module")
def standing(make_sshd_hosts: Callable[[], SshdHosts], tmp_path_factory: pytest.TempPathFactory) -> SshdHosts:
    """Two hosts that are up and well; the second has a login service that ends what a login leaves."""
    programs = tmp_path_factory.mktemp("programs")
    script(programs / "busctl", "echo b true")
    hosts = make_sshd_hosts()
    hosts.add()
    hosts.add(environment={"PATH": f"{programs}:/usr/bin:/bin"})
    with Cluster(hosts.inventory()) as cluster:
        statuses, failures = cluster.up()
    assert failures == {}
    assert [any("KillUserProcesses" in text for text in condition.findings) for condition in statuses.values()] == [
        False,
        True,
    ]
    return hosts


@pytest.mark.parametrize("transport", sshd.TRANSPORTS)
def test_hosts_that_are_up_and_well_have_no_findings_but_their_own(standing: SshdHosts, transport: str) -> None:
    found = findings_of(standing, transport)
    assert list(found) == ["h1"]
    (finding,) = found["h1"]
    assert ("KillUserProcesses" in finding.problem, "loginctl enable-linger" in finding.mend) == (True, True)


def test_peer_that_lets_nobody_in_is_found_and_up_mends_it(standing: SshdHosts) -> None:
    keys = standing.hosts[0].authorized_keys
    keys.write_text("".join(line for line in keys.read_text().splitlines(keepends=True) if "sshmap:" not in line))
    (finding,) = [finding for finding in findings_of(standing)["h1"] if "reach" in finding.problem]
    assert "it does not reach h0: login refused" in finding.problem
    with Cluster(standing.inventory()) as cluster:
        assert cluster.up()[1] == {}
    assert "h0" not in "".join(finding.problem for finding in findings_of(standing)["h1"])


def test_daemon_that_is_down_is_found(standing: SshdHosts) -> None:
    fleet.kill(fleet.daemon_of(Root(standing.hosts[0].root)))
    found = findings_of(standing)
    assert [(finding.problem, finding.mend, finding.blocks) for finding in found["h0"]] == [
        ("its daemon is not running", "sshmap up", True)
    ]
    with Cluster(standing.inventory()) as cluster:
        assert cluster.up()[1] == {}


def test_same_root_under_two_names_is_found(standing: SshdHosts) -> None:
    inventory = standing.inventory("openssh", hosts=[standing.hosts[0], standing.hosts[0]])
    twins = type(inventory)(
        hosts=(inventory.hosts[0], standing.host(standing.hosts[0], "openssh", name="h9")), origin="test"
    )
    with Cluster(twins, autostart=False) as cluster:
        found = [(finding.host, finding.problem) for finding in cluster.doctor()]
    assert ("h9", "it is the same root as h0") in found, found


def test_host_before_up_is_examined_and_left_as_it_was(sshd_hosts: SshdHosts) -> None:
    (host,) = sshd_hosts.add(bashrc="echo Welcome; echo 'to h0' >&2\n")
    before = tree_state(host.home)
    found = findings_of(sshd_hosts)["h0"]
    assert tree_state(host.home) == before
    assert [(finding.problem, finding.mend) for finding in found if finding.blocks] == [
        ("it is not set up", "sshmap up")
    ]
    (noise,) = [finding.problem for finding in found if not finding.blocks]
    assert "'Welcome'" in noise


def test_hosts_that_cannot_be_reached_are_findings_with_what_mends_them(sshd_hosts: SshdHosts) -> None:
    sshd_hosts.add(known=False)
    sshd_hosts.add(bashrc="echo goodbye; exit 5\n")
    sshd_hosts.add(config=["DenyUsers *"])
    path = sshd_hosts.write(sshd_hosts.inventory())
    code, out, err = fleet.sshmap(path, "doctor", "--json")
    found = {finding["host"]: finding for finding in json.loads(out)}
    assert (code, list(found), all(finding["blocks"] for finding in found.values())) == (3, ["h0", "h1", "h2"], True), (
        err
    )
    assert found["h0"]["mend"] == f"sshmap -i {path} trust"
    assert "goodbye" in found["h1"]["problem"]
    assert "login" in found["h2"]["problem"]
    code, out, err = fleet.sshmap(path, "doctor", "--hosts", "h0")
    assert (
        code,
        out.count(b"\n"),
        f"    mend: sshmap -i {path} trust\n".encode() in out,
        b"h0: 1 findings" in err,
    ) == (3, 2, True, True)


def test_daemon_is_started_so_that_it_outlives_the_login_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, folder = ["program", "argument"], tmp_path / "linger"
    folder.mkdir()
    for name, text in {"busctl": "echo b true", "systemd-run": "exit 0"}.items():
        script(tmp_path / name, text)
    monkeypatch.setattr(logind, "LINGER", folder)
    assert (logind.outliving(argv), logind.findings()) == (argv, ()), "there is no such service"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert (logind.outliving(argv), len(logind.findings())) == (argv, 1), "the user does not linger"
    (folder / sshd.user_name()).touch()
    assert logind.outliving(argv) == ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--", *argv]
    assert logind.findings() == ()
