"""Processes are killed at random times, then the same command is given again: promises 4, 5 and 8.

SSHMAP_KILL_ROUNDS says how many rounds are tried, 6 by itself; a round's number seeds its
dice, so that a failed one can be thrown again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.agent.daemon.commits import MOST
from sshmap.client.job_results import JobFailed
from sshmap.errors import SshmapError
from sshmap.inventory import Inventory
from sshmap.model import TaskState, Verb
from tests.conftest import wait_until
from tests.integration import fleet

#: read at import: a fixture cleans the environment before each test
ROUNDS = int(os.environ.get("SSHMAP_KILL_ROUNDS", "6"))
ROLES = ("worker", "courier", "listener", "daemon", "supervisor", "client")
KEYS = 200
COMMANDS = {
    Verb.MAP: 'read -r line; echo "$SSHMAP_NAME: $line"; for i in {1..300}; do echo $i; done',
    Verb.FANOUT: 'for n in {0..5}; do echo "$filename $n" > ${n}_part; echo ${n}_part; done',
}


def expected(verb: Verb) -> dict[str, bytes]:
    """What an undisturbed run makes."""
    numbers = "".join(f"{number}\n" for number in range(1, 301)).encode()
    if verb is Verb.MAP:
        return {f"out/map/k{number}": b"k%d: content %d\n%b" % (number, number, numbers) for number in range(KEYS)}
    return {
        f"out/fanout/k{number}/{part}_part": b"k%d %d\n" % (number, part) for number in range(KEYS) for part in range(6)
    }


def fetch_all(cluster: Cluster, prefix: str) -> dict[str, bytes]:
    """Read every key below a prefix to its end."""
    names = [row.path for row in cluster.ls(f"sm://{prefix}", recursive=True)]
    return {name: cluster.get(f"sm://{name}") for name in names}


def kill_at_random(inventory: Inventory, role: str, dice: random.Random, client: subprocess.Popen[bytes]) -> None:
    """Kill a process of a role on some host, up to three times while the client lives, at times the dice choose."""
    for _ in range(3):
        try:
            client.wait(timeout=dice.uniform(0.02, 0.4))
        except subprocess.TimeoutExpired:
            root = fleet.root_of(inventory, dice.choice(inventory.hosts).name)
            if pid := client.pid if role == "client" else fleet.process_of(root, role):
                fleet.kill(pid)
        else:
            return


def give_until_done(inventory_file: Path, arguments: list[str], most: int = 6) -> None:
    """Give the same command until it succeeds; a run may fail only by what was killed under it."""
    for _ in range(most):
        code, _, err = fleet.sshmap(inventory_file, *arguments)
        if code == 0:
            return
        assert code in (1, 3), err.decode()
    raise AssertionError(f"the command does not succeed: {err.decode()}")


def litter_after_a_visit(inventory: Inventory) -> list[str]:
    """Return what lies in the hosts' tmp/ and belongs to no living process, after a session has been there."""
    with Cluster(inventory) as cluster:
        cluster.statuses()
    return [litter for host in inventory.hosts for litter in fleet.litter_in(fleet.root_of(inventory, host.name))]


def rounds() -> Iterator[object]:
    """Every role is killed in turn, during a map or a fan-out, which change places each time all roles had their turn."""
    for seed in range(ROUNDS):
        verb, role = (Verb.FANOUT, Verb.MAP)[(seed + seed // len(ROLES)) % 2], ROLES[seed % len(ROLES)]
        yield pytest.param(verb, role, seed, id=f"{verb.value}-{role}-seed{seed}")


@pytest.mark.parametrize(("verb", "role", "seed"), list(rounds()))
def test_killed_run_given_again_equals_an_undisturbed_one(
    roots: Path, tmp_path: Path, verb: Verb, role: str, seed: int
) -> None:
    """Outputs are byte-identical, no key is torn, nothing is left in tmp/ and nothing runs after `down`."""
    dice = random.Random(seed)
    inventory = fleet.local_inventory(roots, workers=1 + seed % 4 // 2)
    inventory_file = fleet.write_inventory(inventory, tmp_path / "inventory.toml")
    arguments = ["-q", verb.value, "sm://in/", f"sm://out/{verb.value}/", COMMANDS[verb]]
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(KEYS):
            cluster.put(b"content %d\n" % number, f"sm://in/k{number}")
    with fleet.start_sshmap(inventory_file, *arguments[1:]) as client:
        kill_at_random(inventory, role, dice, client)
        _, err = client.communicate(timeout=60)
    assert client.returncode in (0, 1, 3, -signal.SIGKILL), err.decode()
    give_until_done(inventory_file, arguments)
    with Cluster(inventory) as cluster:
        assert fetch_all(cluster, "out/") == expected(verb)
        assert len(fetch_all(cluster, "in/")) == KEYS
        assert cluster.submit(verb, "sm://in/", f"sm://out/{verb.value}/", COMMANDS[verb]).kept == KEYS
        wait_until(lambda: not litter_after_a_visit(inventory), limit=5, what="temporary files are left")
        cluster.down()
    wait_until(lambda: not fleet.processes_at(roots), limit=10, what="processes are left after down")


def submit_beside(inventory: Inventory, command: str, verb: Verb = Verb.MAP) -> tuple[threading.Thread, list[object]]:
    """Run a job in a thread of its own; its result or error is put into the list."""
    outcome: list[object] = []

    def run() -> None:
        with Cluster(inventory) as cluster:
            try:
                outcome.append(cluster.submit(verb, "sm://in/", "sm://out/", command))
            except SshmapError as exc:
                outcome.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def busy_command(mark: str, top: Path) -> str:
    """A command that notes each attempt and then stays, with children that leave in every way, until it is let go."""
    return (
        f'echo "$SSHMAP_ATTEMPT" >> {top}/attempts; sleep {mark} & setsid sleep {mark} & (setsid sleep {mark} &); '
        f"test -e {top}/go || sleep {mark}; cat"
    )


@pytest.fixture
def mark() -> str:
    """A number of seconds that no other test sleeps."""
    return f"300.{os.getpid()}{time.monotonic_ns() % 1_000_000}"


def nothing_marked(mark: str) -> Callable[[], bool]:
    """Say whether no `sleep` with the mark runs any more."""
    return lambda: not fleet.processes_marked(f"sleep {mark}")


def test_command_of_a_killed_worker_ends_and_runs_again(roots: Path, tmp_path: Path, mark: str) -> None:
    """Its whole tree ends within 10 s, whatever it did to get away, and the task runs again as attempt 2."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"content", "sm://in/a")
        thread, outcome = submit_beside(inventory, busy_command(mark, tmp_path))
        wait_until(lambda: len(fleet.processes_marked(f"sleep {mark}")) >= 4)
        (tmp_path / "go").touch()
        fleet.kill(fleet.await_process(root, "worker"))
        wait_until(nothing_marked(mark), limit=10)
        thread.join(30)
        assert getattr(outcome[0], "done", outcome[0]) == 1
        assert (tmp_path / "attempts").read_text() == "1\n2\n"
        assert cluster.get("sm://out/a") == b"content"
        assert nothing_marked(mark)()
        cluster.down()


def test_command_of_a_killed_supervisor_ends(roots: Path, tmp_path: Path, mark: str) -> None:
    """When the supervisor is shot, the command does not run on by itself beside its next attempt."""
    inventory = fleet.local_inventory(roots, hosts=1)
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"content", "sm://in/a")
        thread, _ = submit_beside(inventory, busy_command(mark, tmp_path))
        wait_until(lambda: len(fleet.processes_marked(f"sleep {mark}")) >= 4)
        (tmp_path / "go").touch()
        fleet.kill(fleet.await_process(fleet.root_of(inventory, "h0"), "supervisor"))
        wait_until(nothing_marked(mark), limit=10, what="the command of a killed supervisor runs on")
        thread.join(30)
        cluster.map("sm://in/", "sm://out/", busy_command(mark, tmp_path))
        assert cluster.get("sm://out/a") == b"content"
        cluster.down()


@pytest.mark.parametrize("victim", ["$PPID", '"$(ps -o ppid= -p $PPID | tr -d " ")"'], ids=["supervisor", "worker"])
def test_command_that_kills_what_runs_it_harms_only_its_task(roots: Path, victim: str) -> None:
    """It is given up after some attempts at most; tasks that were claimed with it but never begun are done."""
    inventory = fleet.local_inventory(roots, hosts=1)
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(40):
            cluster.put(b"%d" % number, f"sm://in/k{number:02}")
        with pytest.raises(JobFailed) as caught:
            cluster.map(
                "sm://in/", "sm://out/", f'if [ "$SSHMAP_NAME" = k27 ]; then kill -9 {victim}; sleep 20; fi; cat'
            )
        assert [failure.key for failure in caught.value.result.failures] == ["sm://in/k27"]
        assert len(fetch_all(cluster, "out/")) == 39
        cluster.down()


def test_stopping_the_daemon_often_does_not_fail_a_long_task(roots: Path, tmp_path: Path, mark: str) -> None:
    """`down` in the middle of a command is no fault of the command, however often it happens."""
    inventory = fleet.local_inventory(roots, hosts=1)
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"content", "sm://in/a")
        command = busy_command(mark, tmp_path)
        with fleet.start_sshmap(
            fleet.write_inventory(inventory, tmp_path / "inventory.toml"), "map", "sm://in/", "sm://out/", command
        ) as client:
            wait_until((tmp_path / "attempts").exists)
            fleet.kill(client.pid)
        for _ in range(6):
            cluster.down()
            wait_until(nothing_marked(mark), limit=10)
            cluster.up()
            wait_until(lambda: fleet.processes_marked(f"sleep {mark}"), limit=5, what="the task is not run again")
        (tmp_path / "go").touch()
        cluster.down()
        cluster.up()
        result = cluster.map("sm://in/", "sm://out/", command)
        assert result.done + result.kept == 1
        cluster.down()


@pytest.mark.parametrize("escape", ["sleep {mark}", "env -i setsid sleep {mark}"], ids=["plain", "without-environment"])
def test_next_daemon_ends_what_a_killed_tree_left(roots: Path, tmp_path: Path, mark: str, escape: str) -> None:
    """After kill -9 of every process of a host but its commands, the next daemon leaves none of those running."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"content", "sm://in/a")
    with Cluster(inventory) as cluster:
        command = f"test -e {tmp_path}/go && exit; {escape.format(mark=mark)} & (setsid {escape.format(mark=mark)} &); sleep {mark}"
        thread, _ = submit_beside(inventory, command)
        wait_until(lambda: len(fleet.processes_marked(f"sleep {mark}")) >= 3)
        commands = fleet.processes_marked(f"sleep {mark}")
        (tmp_path / "go").touch()
        tree = [pid for pid in fleet.tree_of(root) if pid not in commands]
        for pid in tree:
            fleet.freeze(pid)
        for pid in tree:
            fleet.kill(pid)
        cluster.up()
        wait_until(
            lambda: not set(commands) & set(fleet.processes_marked(f"sleep {mark}")),
            limit=10,
            what="commands of the former daemon run on",
        )
        thread.join(30)
        cluster.down()


def test_killed_tree_goes_on_where_it_was(roots: Path, tmp_path: Path) -> None:
    """After kill -9 of all processes of a host only unfinished tasks run again."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(KEYS):
            cluster.put(b"%d" % number, f"sm://in/k{number}")
        command = (
            f'echo "$SSHMAP_NAME" >> {tmp_path}/runs; echo x >> {tmp_path}/count; read -t 0.02 < <(:) || true; cat'
        )
        thread, _ = submit_beside(inventory, command)
        wait_until(lambda: (tmp_path / "runs").exists() and len((tmp_path / "runs").read_text().split()) >= 20)
        for pid in fleet.tree_of(root):
            fleet.kill(pid)
        thread.join(60)
        cluster.map("sm://in/", "sm://out/", command)
        assert fetch_all(cluster, "out/") == {f"out/k{number}": b"%d" % number for number in range(KEYS)}
        runs = (tmp_path / "runs").read_text().split()
        # what had not been committed yet: several quick tasks are together
        assert KEYS <= len(runs) <= KEYS + 1 + MOST * inventory.hosts[0].workers
        cluster.down()


def test_hosts_finish_when_the_client_is_killed(roots: Path, tmp_path: Path) -> None:
    """The work belongs to the hosts: it is done some time later without anybody asking."""
    inventory = fleet.local_inventory(roots, hosts=2)
    inventory_file = fleet.write_inventory(inventory, tmp_path / "inventory.toml")
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(20):
            cluster.put(b"%d" % number, f"sm://in/k{number}")
        with fleet.start_sshmap(
            inventory_file, "map", "sm://in/", "sm://out/", f"touch {tmp_path}/begun; sleep 0.1; cat"
        ) as client:
            wait_until((tmp_path / "begun").exists)
            fleet.kill(client.pid)
        wait_until(lambda: len(fetch_all(cluster, "out/")) == 20, what="the hosts did not finish")
        cluster.down()


def test_failed_command_is_not_run_again_because_the_session_broke(roots: Path, tmp_path: Path) -> None:
    """The client goes on with the same run: what failed before the agent was killed counts as failed, once."""
    inventory = fleet.local_inventory(roots, hosts=1, workers=2)
    root = fleet.root_of(inventory, "h0")
    command = (
        f'echo x >> {tmp_path}/runs-$SSHMAP_NAME; test "$SSHMAP_NAME" != bad; '
        f"until [ -e {tmp_path}/gate ]; do read -rt 0.02 <> <(:) || true; done; cat"
    )
    with Cluster(inventory) as cluster:
        cluster.up()
        for name in ("bad", "good"):
            cluster.put(b"content", f"sm://in/{name}")
        thread, outcome = submit_beside(inventory, command)
        wait_until(lambda: all((tmp_path / f"runs-{name}").exists() for name in ("bad", "good")))
        wait_until(lambda: any(row.states.get(TaskState.FAILED) for row in cluster.jobs()), what="the command fails")
        fleet.kill(fleet.await_process(root, "listener"))
        fleet.await_process(root, "listener")
        (tmp_path / "gate").touch()
        thread.join(30)
        assert isinstance(outcome[0], JobFailed), outcome
        result = outcome[0].result
        assert (result.done, result.failed, [failure.key for failure in result.failures]) == (1, 1, ["sm://in/bad"])
        assert [(tmp_path / f"runs-{name}").read_text() for name in ("bad", "good")] == ["x\n", "x\n"]
        cluster.down()
