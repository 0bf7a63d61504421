"""Hosts that are gone or say nothing, and a client that is killed: what is said, how soon, and what goes on without it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.errors import HostLost
from sshmap.inventory import Inventory
from sshmap.model import Verb
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import TRANSPORTS, SshdHosts, free_port, silent_port

make_sshd_hosts = sshd.make_sshd_hosts

KEYS = 200
#: seconds within which a host that does not answer has to be named
NAMED_WITHIN = 30.0


@pytest.fixture(scope="module")
def standing(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """Two hosts that are up, for tests that leave them so; each works in buckets of its own."""
    hosts = make_sshd_hosts()
    hosts.add(2)
    with Cluster(hosts.inventory("openssh", workers=2)) as cluster:
        assert cluster.up()[1] == {}
    return hosts


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """How the laptop reaches the hosts."""
    return str(request.param)


def job_of(inventory: Path, outdir: str) -> dict[str, int]:
    """Return how many tasks of the job that writes to a directory are in which state."""
    code, out, err = fleet.sshmap(inventory, "jobs", "--json")
    assert code == 0, err
    rows = [row for row in json.loads(out) if row["outdir"] == outdir]
    return {state: sum(row[state] for row in rows) for state in ("queued", "running", "done", "failed")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "hung-up"])
def test_hosts_finish_what_a_lost_client_submitted_and_the_same_command_keeps_it(
    standing: SshdHosts, transport: str, number: signal.Signals, tmp_path: Path
) -> None:
    path = standing.write(standing.inventory(transport, workers=2))
    bucket = f"{transport}-{number.name.lower()}"
    started, gate = tmp_path / "started", tmp_path / "gate"
    started.mkdir()
    command = f"touch {started}/$SSHMAP_NAME; until [ -e {gate} ]; do read -rt 0.02 <> <(:) || true; done; sed s/content/output/"
    with Cluster(path) as cluster:
        (tmp_path / "data").mkdir()
        for key in range(KEYS):
            (tmp_path / "data" / f"k{key}").write_bytes(b"content %d" % key)
        cluster.put_tree(tmp_path / "data", f"sm://{bucket}/in/")
    arguments = ("map", f"sm://{bucket}/in/", f"sm://{bucket}/out/", command)
    with fleet.start_sshmap(path, *arguments) as client:
        wait_until(lambda: len(list(started.iterdir())) >= 4, what="tasks run")
        client.send_signal(number)
        client.communicate(timeout=20)
    assert client.returncode == (-signal.SIGKILL if number is signal.SIGKILL else 129)
    gate.touch()
    wait_until(
        lambda: job_of(path, f"sm://{bucket}/out/")["done"] == KEYS,
        limit=40,
        what="the hosts finish without the client",
    )
    with Cluster(path) as cluster:
        result = cluster.submit(Verb.MAP, *arguments[1:])
        assert (result.done, result.kept, result.failed) == (0, KEYS, 0)
        cluster.get_tree(f"sm://{bucket}/out/", tmp_path / "results")
    assert {file.name: file.read_bytes() for file in (tmp_path / "results").iterdir()} == {
        f"k{key}": b"output %d" % key for key in range(KEYS)
    }


def test_interrupt_cancels_the_run_and_says_that_the_same_command_goes_on(
    standing: SshdHosts, transport: str, tmp_path: Path
) -> None:
    path = standing.write(standing.inventory(transport, workers=2))
    gate = tmp_path / "gate"
    with Cluster(path) as cluster:
        for number in range(2):
            cluster.put(b"content", f"sm://interrupt-{transport}/in/00{number}_k")
    command = f"touch {tmp_path}/started-$SSHMAP_NAME; until [ -e {gate} ]; do read -rt 0.02 <> <(:) || true; done"
    with fleet.start_sshmap(
        path, "map", f"sm://interrupt-{transport}/in/", f"sm://interrupt-{transport}/out/", command
    ) as client:
        wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2, what="tasks run")
        began = time.monotonic()
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=20)
        seconds = time.monotonic() - began
    gate.touch()
    assert (client.returncode, b"the same command goes on" in err, seconds < 4) == (130, True, True), (
        err,
        seconds,
    )


def with_a_host_down(standing: SshdHosts, transport: str, port: int = 0) -> Inventory:
    """Return the inventory with the second host at another port: one where nothing listens, unless one is given."""
    inventory = standing.inventory(transport)
    return replace(inventory, hosts=(inventory.hosts[0], replace(inventory.hosts[1], port=port or free_port())))


@pytest.mark.parametrize(("kind", "phase"), [("silent", "banner"), ("closed", "connect")])
def test_host_that_does_not_answer_is_named_with_the_phase_and_the_other_is_healthy(
    standing: SshdHosts, transport: str, kind: str, phase: str
) -> None:
    with silent_port() as silent:
        path = standing.write(with_a_host_down(standing, transport, silent if kind == "silent" else 0))
        with fleet.start_sshmap(path, "health", "--json") as client:
            try:
                out, err = client.communicate(timeout=NAMED_WITHIN)
            finally:
                client.kill()
    assert (client.returncode, b"1 of 2 hosts are unhealthy" in err) == (3, True)
    well, ill = json.loads(out)
    assert well == {"host": "h0", "healthy": True, "reason": ""}
    assert (ill["host"], ill["healthy"], phase in ill["reason"]) == ("h1", False, True), ill


def test_listing_with_a_host_down_is_an_error_and_not_a_short_list(standing: SshdHosts, transport: str) -> None:
    with Cluster(standing.inventory()) as cluster:
        for number in range(2):
            cluster.put(b"", f"sm://ls/00{number}_k")
    path = standing.write(with_a_host_down(standing, transport))
    for verb in (
        ("ls", "-r", "sm://ls/"),
        ("ls", "--json", "sm://ls/"),
        ("where", "sm://ls/"),
        ("cp", "-r", "sm://ls/", "copy"),
        ("rm", "-r", "-y", "sm://nothing/"),
    ):
        code, out, err = fleet.sshmap(path, *verb)
        assert (verb, code, out) == (verb, 3, b""), err
        assert b"h1" in err
        assert b"Traceback" not in err


def test_job_with_a_host_down_does_the_rest_and_counts_what_is_missing(standing: SshdHosts, transport: str) -> None:
    bucket = f"partial-{transport}"
    with Cluster(standing.inventory()) as cluster:
        for number in range(6):
            cluster.put(b"content", f"sm://{bucket}/in/00{number}_k")
    arguments = (f"sm://{bucket}/in/", f"sm://{bucket}/out/", "cat")
    with Cluster(with_a_host_down(standing, transport)) as cluster, pytest.raises(JobFailed) as failed:
        cluster.map(*arguments)
    assert (failed.value.exit_code, failed.value.host, failed.value.result.done) == (3, "h1", 3)
    with Cluster(standing.inventory(transport)) as cluster:
        result = cluster.map(*arguments)
        assert (result.done, result.kept) == (3, 3)


def test_session_that_is_cut_is_opened_again(standing: SshdHosts, transport: str) -> None:
    host = standing.hosts[0]
    with Cluster(standing.inventory(transport)) as cluster:
        cluster.put(b"content", f"sm://cut-{transport}/000_k")
        host.stop()
        try:
            with pytest.raises(HostLost) as lost:
                list(cluster.ls(f"sm://cut-{transport}/"))
        finally:
            host.start()
        assert (lost.value.exit_code, lost.value.host) == (3, "h0")
        assert cluster.get(f"sm://cut-{transport}/000_k") == b"content"
        for pid in host.tree()[1:]:
            fleet.kill(pid)
        assert [row.path for row in cluster.ls(f"sm://cut-{transport}/")] == [f"cut-{transport}/000_k"]
