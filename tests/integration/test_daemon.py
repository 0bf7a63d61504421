"""The daemon's life: one per root, stops when idle, goes down whole, and holds on to the ring its data was placed by."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.agent.host import lifecycle
from sshmap.agent.session import following
from sshmap.agent.session.server import serve
from sshmap.errors import HostNotReady, RingChanged
from sshmap.inventory import Inventory
from sshmap.model import JobSpec, Maker, Verb
from sshmap.protocol.messages import Counted, Hello, Open, Opened, Plan, Planned, RunEnded, Start
from sshmap.store import locks
from sshmap.store.layout import Root
from sshmap.transport import memory
from sshmap.transport.argv import agent_argv
from sshmap.transport.session import Session
from tests.conftest import wait_until
from tests.contract.talk import put
from tests.integration import fleet

#: holds the daemon's lock and does nothing else
LEAVING = """
assert locks.try_lock(root, "daemon")
print(flush=True)
sys.stdin.read()
"""

#: starts the daemon, and says when it has looked for the first time whether there is one
STARTING = """
look = lifecycle.ensure_running
def looked(root):
    look(root)
    print(flush=True)
lifecycle.ensure_running = looked
lifecycle.start(root)
"""

#: Asks all the time whether the lock is held, as sessions do.
PROBER = """
print(flush=True)
while True:
    locks.is_held(root, "daemon")
"""


@contextlib.contextmanager
def beside(script: str, root: Root) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script in another process, from its first line of output on."""
    imports = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from sshmap.agent.host import lifecycle"
    )
    names = "from sshmap.store import locks; from sshmap.store.layout import Root; root = Root(Path(sys.argv[2]))"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", f"{imports}\n{names}\n{script}", str(fleet.PACKAGE), str(root.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        try:
            yield process
        finally:
            process.kill()


def reordered(inventory: Inventory) -> Inventory:
    """The same hosts in another order, which places keys differently."""
    return msgspec.structs.replace(inventory, hosts=inventory.hosts[::-1])


def test_second_daemon_of_a_root_returns_at_once(roots: Path) -> None:
    """The lock decides, and the first one goes on."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        first = fleet.daemon_of(root)
        for _ in range(3):
            assert subprocess.run(agent_argv("daemon", str(root.path)), timeout=10, check=False).returncode == 0
        assert fleet.daemon_of(root) == first
        assert cluster.put(b"x", "sm://b/k").fresh == 1
        cluster.down()


def test_up_twice_and_at_once_starts_one_daemon(inventory: Inventory) -> None:
    """However many ask for it, and asking again changes nothing."""

    def up(_: int) -> dict[str, int]:
        with Cluster(inventory) as cluster:
            statuses, failures = cluster.up()
            assert not failures
            return {name: condition.pid for name, condition in statuses.items()}

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(up, range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert up(0) == answers[0]
    for host in inventory.hosts:
        managers = [
            pid
            for pid, words in fleet.processes_at(Path(host.root)).items()
            if words.startswith(f"sshmap daemon {host.root}")
        ]
        assert managers == [answers[0][host.name]]
    with Cluster(inventory) as cluster:
        cluster.down()


def test_up_waits_for_a_daemon_on_its_way_out_and_starts_the_next(roots: Path) -> None:
    """Who holds the lock answers no more, and is gone a moment later."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.down()
        with beside(LEAVING, root) as leaving:
            assert lifecycle.pid_of(root) == leaving.pid
            with beside(STARTING, root) as starting:
                leaving.kill()
                assert starting.wait(30) == 0
        assert lifecycle.pid_of(root) not in (0, leaving.pid)
        assert cluster.down()["h0"].was_running


def test_daemon_starts_while_others_look_at_its_lock(roots: Path) -> None:
    """Whoever looks whether the lock is held does not keep the daemon from taking it."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.down()
        with beside(PROBER, root):
            for _ in range(3):
                began = time.monotonic()
                statuses, failures = cluster.up()
                assert not failures
                assert statuses["h0"].daemon
                assert time.monotonic() - began < 10
                cluster.down()


def test_idle_daemon_ends_by_itself(roots: Path) -> None:
    """After `idle_stop` seconds without use nothing runs any more, and the next use starts it again."""
    inventory = fleet.local_inventory(roots, hosts=1, idle_stop=1.0)
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://in/k")
    wait_until(lambda: not fleet.processes_at(roots), limit=15, what="the idle daemon does not end")
    with Cluster(inventory) as cluster:
        assert cluster.map("sm://in/", "sm://out/", "cat").done == 1
        cluster.down()


def test_busy_daemon_does_not_count_as_idle(roots: Path, tmp_path: Path) -> None:
    """A command longer than `idle_stop` is run to its end, though nobody waits for it."""
    inventory = fleet.local_inventory(roots, hosts=1, idle_stop=0.5)
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://in/k")
    arguments = ["map", "sm://in/", "sm://out/", f"touch {tmp_path}/begun; sleep 2.5; cat; touch {tmp_path}/ended"]
    with fleet.start_sshmap(fleet.write_inventory(inventory, tmp_path / "inventory.toml"), *arguments) as client:
        wait_until((tmp_path / "begun").exists)
        fleet.kill(client.pid)
    wait_until((tmp_path / "ended").exists, limit=10)
    wait_until(lambda: not fleet.processes_at(roots), limit=15, what="the idle daemon does not end")
    with Cluster(inventory) as cluster:
        assert cluster.get("sm://out/k") == b"x"
        cluster.down()


def test_down_leaves_keys_and_no_process(inventory: Inventory, tmp_path: Path) -> None:
    """All processes are gone when it returns, running commands too; a second `down` is fine; keys stay."""
    mark = f"200.{os.getpid()}{time.monotonic_ns() % 100000}"
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://in/k")
        arguments = ["map", "sm://in/", "sm://out/", f"(setsid sleep {mark} &); trap '' TERM; sleep {mark}"]
        with fleet.start_sshmap(fleet.write_inventory(inventory, tmp_path / "inventory.toml"), *arguments) as client:
            wait_until(lambda: len(fleet.processes_marked(f"sleep {mark}")) >= 2)
            fleet.kill(client.pid)
        assert all(answer.was_running for answer in cluster.down().values())
        wait_until(lambda: not fleet.processes_marked(f"sleep {mark}"), limit=2, what="commands run on after down")
        wait_until(lambda: not fleet.processes_at(tmp_path / "roots"), limit=2, what="processes are left after down")
        assert not any(answer.was_running for answer in cluster.down().values())
    with Cluster(inventory) as cluster:
        assert cluster.get("sm://in/k") == b"x"
        cluster.down()


def test_down_ends_a_daemon_that_was_only_just_started(roots: Path) -> None:
    """A session that starts the daemon and does not need it leaves it in its first moments; it is not missed."""
    inventory = fleet.local_inventory(roots, hosts=1)
    for _ in range(5):
        with Cluster(inventory) as cluster:
            assert not list(cluster.ls())
            assert cluster.down()["h0"].was_running
        wait_until(lambda: not fleet.processes_at(roots), limit=5, what="a daemon has outlived down")


def test_down_with_purge_removes_the_roots(inventory: Inventory) -> None:
    """Nothing of the roots is left, not even after a purge of what is purged; `up` makes new ones."""
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(30):
            cluster.put(b"x", f"sm://b/dir/k{number}")
        cluster.down(purge=True)
        assert not [host.root for host in inventory.hosts if Path(host.root).exists()]
        cluster.down(purge=True)
        assert not [host.root for host in inventory.hosts if Path(host.root).exists()]
        assert not cluster.up()[1]
        assert not list(cluster.ls())
        cluster.down()


@pytest.mark.parametrize("role", ["worker", "daemon"])
def test_down_ends_a_process_that_is_stopped(roots: Path, role: str) -> None:
    """SIGSTOP of one of its processes holds `down` up by seconds; afterwards it is gone as well."""
    inventory = fleet.local_inventory(roots, hosts=1)
    with Cluster(inventory) as cluster:
        cluster.up()
        frozen = fleet.await_process(fleet.root_of(inventory, "h0"), role)
        fleet.freeze(frozen)
        began = time.monotonic()
        cluster.down()
        assert time.monotonic() - began < 15
        wait_until(lambda: not fleet.is_alive(frozen), limit=1, what=f"the stopped {role} is left")
        wait_until(lambda: not fleet.processes_at(roots), limit=2, what="processes are left after down")


def test_workers_end_with_their_manager(roots: Path) -> None:
    """SIGKILL of the manager leaves no worker, courier or listener behind."""
    inventory = fleet.local_inventory(roots, hosts=1, workers=2)
    with Cluster(inventory) as cluster:
        cluster.up()
    fleet.kill(fleet.daemon_of(fleet.root_of(inventory, "h0")))
    wait_until(lambda: not fleet.processes_at(roots), limit=10, what="processes outlive their manager")


@pytest.mark.parametrize("role", ["worker", "courier", "listener"])
def test_killed_process_is_replaced(roots: Path, role: str) -> None:
    """The manager starts another one, and the host is of use all the time."""
    inventory = fleet.local_inventory(roots, hosts=2)
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://in/k")
        for host in inventory.hosts:
            fleet.kill(fleet.await_process(fleet.root_of(inventory, host.name), role))
        cluster.fanout("sm://in/", "sm://out/", "for n in 0_x 1_x; do cat > $n < $SSHMAP_FILE; echo $n; done")
        assert cluster.get("sm://out/k/1_x") == b"x"
        for host in inventory.hosts:
            fleet.await_process(fleet.root_of(inventory, host.name), role)
        cluster.down()


def test_ring_cannot_change_under_data(inventory: Inventory) -> None:
    """Another order, name or weight is refused with the difference shown, and the data stays readable by the former inventory."""
    heavier = msgspec.structs.replace(
        inventory, hosts=(msgspec.structs.replace(inventory.hosts[0], weight=2.0), *inventory.hosts[1:])
    )
    fewer = msgspec.structs.replace(inventory, hosts=inventory.hosts[:2])
    with Cluster(inventory) as cluster:
        cluster.up()
        for number in range(12):
            cluster.put(b"x", f"sm://b/{number}_k")
        for changed, word in (
            (reordered(inventory), "order was h0 h1 h2, is h2 h1 h0"),
            (heavier, "weight of h0 was 1, is 2"),
            (fewer, "h2 is gone"),
        ):
            with Cluster(changed) as other, pytest.raises(RingChanged) as caught:
                other.get("sm://b/0_k")
            assert caught.value.exit_code == 4
            assert word in caught.value.message
            with Cluster(changed) as other, pytest.raises(RingChanged):
                other.put(b"y", "sm://b/0_other")
        assert {cluster.get(f"sm://b/{number}_k") for number in range(12)} == {b"x"}
        cluster.down()


def test_ring_without_data_is_adopted(inventory: Inventory) -> None:
    """Also by workers and couriers that run already: a fan-out places its files by the new ring."""
    with Cluster(inventory) as cluster:
        cluster.up()
    with Cluster(reordered(inventory)) as cluster:
        for number in range(6):
            cluster.put(b"%d" % number, f"sm://in/{number}_k")
        cluster.fanout("sm://in/", "sm://out/", "for n in 0_x 1_x 2_x; do cat > $n < $SSHMAP_FILE; echo $n; done")
        for number in range(6):
            assert [cluster.get(f"sm://out/{number}_k/{part}_x") for part in range(3)] == [b"%d" % number] * 3
        assert {row.host for row in cluster.where("sm://out/") if row.name.endswith("/0_x")} == {"h2"}
        cluster.down()


def test_ring_can_change_after_the_data_is_gone(inventory: Inventory) -> None:
    """Removing all keys frees the inventory."""
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://b/0_k")
        cluster.rm("sm://b/", recursive=True)
    with Cluster(reordered(inventory)) as cluster:
        cluster.put(b"x", "sm://b/0_k")
        assert cluster.get("sm://b/0_k") == b"x"
        cluster.down()


def test_unused_daemon_waits_without_work(roots: Path) -> None:
    """An idle daemon uses next to no processor time: under 20 ms in a second, all its processes together."""
    inventory = fleet.local_inventory(roots, hosts=1)
    with Cluster(inventory) as cluster:
        cluster.up()
    root = fleet.root_of(inventory, "h0")
    fleet.await_process(root, "worker")
    assert not fleet.process_of(root, "supervisor")

    def ticks() -> int:
        fields = [
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            for pid in fleet.tree_of(root)
        ]
        return sum(int(field[11]) + int(field[12]) for field in fields)

    def quiet() -> bool:
        before, until = ticks(), time.monotonic() + 1
        wait_until(lambda: time.monotonic() > until)
        return ticks() - before <= 2

    wait_until(quiet, limit=10, what="the idle daemon is busy")
    with Cluster(inventory) as cluster:
        cluster.down()


def test_scratch_of_living_processes_is_left_alone(roots: Path) -> None:
    """Sessions sweep what dead processes left, never what others are writing."""
    inventory = fleet.local_inventory(roots, hosts=1)
    root = fleet.root_of(inventory, "h0")
    with Cluster(inventory) as cluster:
        cluster.up()
        (root.tmp / "999999999.1.abcdef" / "deep").mkdir(parents=True)
        mine = locks.scratch_dir(root)
        with Cluster(inventory) as other:
            other.put(b"x", "sm://b/k")
        assert mine.exists()
        assert not fleet.litter_in(root)
        shutil.rmtree(mine)
        cluster.down()


def test_job_ends_with_the_reason_when_no_worker_stays_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that has its lock and no worker: nothing would ever move."""
    monkeypatch.setattr(following, "_DAEMON_LOOK", 0.01)
    root = Root(tmp_path / "root")
    hello = Hello(host="h0", ring=(("h0", 1.0),))
    with contextlib.closing(Session(memory.connect(lambda channel: serve(root, channel)), hello)) as session:
        assert locks.try_lock(root, "daemon")
        put(session, "in/k", b"content")
        spec = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))
        run = session.ask(Open(job=spec, run="1"), Opened)
        session.writer.message(Plan(job=spec, run=run.run, epoch=run.epoch))
        assert session.ask(Counted(), Planned).fresh == 1
        session.writer.message(Start(job=spec, run=run.run, epoch=run.epoch))
        with pytest.raises(HostNotReady, match="the daemon's worker does not stay up"):
            list(session.stream(Counted(), RunEnded))


def test_list_of_processes_says_what_each_is_and_whose_root(inventory: Inventory) -> None:
    with Cluster(inventory) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://b/000_k")
        assert cluster.map("sm://b/", "sm://o/", "echo; cat").done == 1
        root = fleet.root_of(inventory, "h0")
        said = {fleet.arguments_of(pid).strip() for pid in fleet.tree_of(root)}
        workers = {f"sshmap worker {number} {root.path}" for number in range(inventory.hosts[0].workers)}
        wanted = {f"sshmap {role} {root.path}" for role in ("daemon", "courier", "listener")} | workers
        assert wanted <= said
        others = said - wanted
        assert all(f"supervisor.py serve {root.path} " in line or line.startswith("bash ") for line in others), others
        cluster.down()


def test_ballast_that_was_used_up_is_there_again_for_the_next_session(shared: Cluster) -> None:
    root = fleet.root_of(shared.inventory, "h0")
    root.ballast.unlink()
    with Cluster(shared.inventory) as other:
        other.statuses()
    assert root.ballast.exists()
