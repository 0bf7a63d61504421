"""Runs that are cancelled on real hosts: nothing of them lives on, whatever their commands do and whoever is killed: promises 4, 8, 9."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.model import Owed
from sshmap.store.endings import Endings
from sshmap.store.jobs import Jobs
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.outbox import Outbox
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

make_sshd_hosts = sshd.make_sshd_hosts

#: keys of a job that takes some time to be queued
MANY = 1500
#: seconds within which nothing of a cancelled run may live
GONE_WITHIN = 10.0
_numbers = itertools.count()

#: a process that forks and ends at once, again and again, so that whoever looks for it finds only its parent; `{then}` is done by each child
_FLEES = """python3 -c 'import os
while True:
    if os.fork(): os._exit(0)
    {then}' & """
#: what commands do that do not want to be ended, after they have said that they began; `{mark}` is a number of seconds
ESCAPES = {
    "own-session": "setsid sleep {mark} & wait",
    "without-environment": "env -i setsid sleep {mark} & wait",
    "double-fork": "(setsid sh -c 'sleep {mark} & exec sleep {mark}' &); sleep {mark}",
    "ignores-term": "trap '' TERM; while :; do sleep {mark}; done",
    "ends-before-its-child": "(trap '' TERM HUP INT; while :; do sleep {mark}; done) & trap 'exit 1' TERM; wait",
    "nohup": "nohup sleep {mark} >/dev/null 2>&1 & wait",
    "stopped-child": "setsid sleep {mark} & kill -STOP $!; wait",
    "kills-its-shell": "(setsid sleep {mark} &); kill -9 $(ps -o ppid= -p $BASHPID)",
    "kills-its-supervisor": "(setsid sleep {mark} &); kill -9 $PPID; sleep {mark}",
    "stops-itself": "(setsid sleep {mark} &); kill -STOP $BASHPID; sleep {mark}",
    "stops-its-supervisor": "(setsid sleep {mark} &); kill -STOP $PPID; sleep {mark}",
    "fork-bomb": "b() {{ (( $1 )) || return 0; b $(($1 - 1)) & b $(($1 - 1)) & sleep {mark}; }}; b 6; wait",
    "flees": _FLEES.format(then="pass") + "sleep {mark}",
    "flees-in-new-sessions": _FLEES.format(then="os.setsid()") + "sleep {mark}",
}
#: one for each
KEYS = len(ESCAPES)


@pytest.fixture(scope="module")
def hosts(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """Two hosts that are up, for tests that leave them so; each test works in a bucket of its own."""
    hosts = make_sshd_hosts()
    hosts.add(2)
    with Cluster(hosts.inventory(workers=KEYS // 2)) as cluster:
        assert cluster.up()[1] == {}
    return hosts


@pytest.fixture(scope="module")
def typed(hosts: SshdHosts) -> Path:
    """The inventory as a file."""
    return hosts.write(hosts.inventory(workers=KEYS // 2))


class Bucket:
    """Keys that belong to one test, and jobs on them.

    Args:
        typed: the inventory.
        folder: where commands say that they began.
        keys: how many keys.
    """

    def __init__(self, typed: Path, folder: Path, keys: int = KEYS) -> None:
        self.typed, self.folder = typed, folder
        self.name = f"c{next(_numbers)}"
        self.indir, self.outdir = f"sm://{self.name}/in/", f"sm://{self.name}/out/"
        #: a number of seconds that no other test sleeps
        self.mark = f"300.{time.monotonic_ns() % 1_000_000_000}"
        (folder / "data").mkdir()
        (folder / "begun").mkdir()
        for number in range(keys):
            (folder / "data" / f"{number:03}_k").write_text(f"content {number}\n")
        with Cluster(typed) as cluster:
            cluster.put_tree(folder / "data", self.indir)

    def command(self, what: str) -> str:
        """Return a command that says that it has begun, then does something."""
        return f"touch {self.folder}/begun/$filename; {what.format(mark=self.mark)}"

    def start(self, command: str, *options: str, verb: str = "map") -> subprocess.Popen[bytes]:
        """Start a job in a process of its own."""
        return fleet.start_sshmap(self.typed, verb, *options, self.indir, self.outdir, command)

    def await_begun(self, count: int = 4) -> None:
        """Wait until so many commands have begun."""
        wait_until(lambda: len(list((self.folder / "begun").iterdir())) >= count, what="no task begins")

    def row(self) -> dict[str, object]:
        """Return what `jobs` says of the newest run."""
        code, out, err = fleet.sshmap(self.typed, "jobs", "--json")
        assert code == 0, err
        return next(row for row in json.loads(out) if row["outdir"] == self.outdir)

    def waits(self, root: Root) -> bool:
        """Say whether files in the outbox of a host wait for a peer."""
        with contextlib.closing(Ledger(root)) as ledger:
            return bool(Outbox(ledger).peers_waiting())

    def is_ending(self, root: Root) -> bool:
        """Say whether a host knows that its newest run is cancelled."""
        with contextlib.closing(Ledger(root)) as ledger:
            return next(Jobs(ledger).runs()).ending == "cancelled"

    def expected(self) -> dict[str, bytes]:
        """What an undisturbed `cat` makes."""
        return {file.name: file.read_bytes() for file in (self.folder / "data").iterdir()}

    def results(self) -> dict[str, bytes]:
        """Read all outputs."""
        with Cluster(self.typed) as cluster:
            return {
                row.path.rsplit("/", 1)[1]: cluster.get(f"sm://{row.path}")
                for row in cluster.ls(self.outdir, recursive=True)
            }


@pytest.fixture
def bucket(typed: Path, tmp_path: Path) -> Bucket:
    return Bucket(typed, tmp_path)


def check_over(row: dict[str, object]) -> None:
    """Look that a run is cancelled, that nothing of it was done, and that its counts are true."""
    count = {state: int(str(row[state])) for state in ("done", "failed", "cancelled", "left")}
    assert (row["state"], count["left"], count["done"] > 0) == ("cancelled", 0, False), row
    assert sum(count.values()) == KEYS, row


def nothing_lives(hosts: SshdHosts, mark: str) -> bool:
    """Say whether no command runs on any host, nor a `sleep` with the mark."""
    return not fleet.processes_marked(mark) and not any(fleet.commands_of(Root(host.root)) for host in hosts.hosts)


@pytest.mark.parametrize("way", ["ctrl-c", "cancel"])
def test_commands_that_want_to_live_on_are_ended(hosts: SshdHosts, bucket: Bucket, way: str) -> None:
    """Each key's does something else; what is killed by its own command is tried again until the run is cancelled."""
    cases = " ".join(f"{number:03}_k) {escape};;" for number, escape in enumerate(ESCAPES.values()))
    with bucket.start(bucket.command(f"case $filename in {cases} esac"), "--retries", "1000") as client:
        bucket.await_begun(KEYS)
        began = time.monotonic()
        if way == "ctrl-c":
            client.send_signal(signal.SIGINT)
        else:
            code, _, err = fleet.sshmap(bucket.typed, "cancel")
            assert code == 0, err
        wait_until(lambda: nothing_lives(hosts, bucket.mark), limit=GONE_WITHIN + began - time.monotonic())
        _, err = client.communicate(timeout=20)
    assert client.returncode == 130, err
    check_over(bucket.row())
    assert nothing_lives(hosts, bucket.mark)


def owed(host: sshd.Sshd) -> tuple[Owed, ...]:
    """Return the cancels that a host remembers for others."""
    with contextlib.closing(Ledger(Root(host.root))) as ledger:
        return Endings(ledger).owed()


@contextlib.contextmanager
def unreachable(host: sshd.Sshd) -> Iterator[None]:
    """A host that no client reaches, while its daemon goes on."""
    host.stop()
    try:
        yield
    finally:
        host.start()


def cancel_without(hosts: SshdHosts, bucket: Bucket, away: int, what: str = "sleep {mark}") -> None:
    """Start a job that waits on both hosts, and cancel it while one of them is not reachable."""
    there, gone = hosts.hosts[1 - away], hosts.hosts[away]
    with bucket.start(bucket.command(what), "--detach") as client:
        assert client.communicate(timeout=20)[1] == b""
    bucket.await_begun()
    with unreachable(gone):
        code, _, err = fleet.sshmap(bucket.typed, "cancel")
        assert (code, gone.name.encode() in err, b"not told" in err) == (3, True, True), err
        wait_until(lambda: not fleet.commands_of(Root(there.root)), limit=GONE_WITHIN)
        assert fleet.commands_of(Root(gone.root)), "it goes on where it is not reached"
    assert [note.hosts for note in owed(there)] == [(gone.name,)]


@pytest.mark.parametrize(("verb", "away"), [("ls", 0), ("health", 1)])
def test_host_that_is_back_is_told_by_the_next_command_that_meets_both(
    hosts: SshdHosts, bucket: Bucket, verb: str, away: int
) -> None:
    cancel_without(hosts, bucket, away)
    code, _, err = fleet.sshmap(bucket.typed, verb)
    assert code == 0, err
    assert owed(hosts.hosts[1 - away]) == ()
    wait_until(lambda: nothing_lives(hosts, bucket.mark), limit=GONE_WITHIN)
    check_over(bucket.row())


def test_host_that_was_met_before_the_one_that_remembers_is_told(hosts: SshdHosts, bucket: Bucket) -> None:
    cancel_without(hosts, bucket, 1)
    with Cluster(bucket.typed) as cluster:
        for host in ("h1", "h0"):
            cluster.exec("true", [host])
    assert owed(hosts.hosts[0]) == ()
    wait_until(lambda: nothing_lives(hosts, bucket.mark), limit=GONE_WITHIN)


def test_same_command_runs_anew_on_a_host_that_is_back(hosts: SshdHosts, bucket: Bucket) -> None:
    """Also where the host that was not told is asked first, and so is found to work on the run that is cancelled."""
    gate = bucket.folder / "gate"
    what = f"test -e {gate} || sleep {bucket.mark}; cat"
    cancel_without(hosts, bucket, 1, what)
    gate.touch()
    with Cluster(bucket.typed) as cluster:
        cluster.exec("true", ["h1"])
        result = cluster.map(bucket.indir, bucket.outdir, bucket.command(what))
    assert (result.done, result.failed, result.kept) == (KEYS, 0, 0)
    assert bucket.results() == bucket.expected()


@pytest.mark.parametrize("roles", [("worker", "supervisor"), ("listener", "daemon"), ("tree", "courier")], ids="-".join)
def test_run_ends_though_processes_of_the_daemons_are_killed_while_it_is_cancelled(
    hosts: SshdHosts, bucket: Bucket, roles: tuple[str, str]
) -> None:
    with bucket.start(bucket.command("trap 'sleep 2; exit 1' TERM; sleep {mark} & wait"), "--detach") as client:
        client.communicate(timeout=20)
    bucket.await_begun(KEYS)
    with fleet.start_sshmap(bucket.typed, "cancel") as cancelling:
        for host, role in zip(hosts.hosts, roles, strict=True):
            root = Root(host.root)
            wait_until(lambda root=root: bucket.is_ending(root), what="no cancel arrives")  # type: ignore[misc]
            for pid in fleet.tree_of(root) if role == "tree" else [fleet.await_process(root, role)]:
                fleet.kill(pid)
        wait_until(lambda: nothing_lives(hosts, bucket.mark), limit=GONE_WITHIN)
        _, err = cancelling.communicate(timeout=30)
    assert cancelling.returncode == 0, err
    check_over(bucket.row())
    with Cluster(bucket.typed) as cluster:
        assert cluster.up()[1] == {}


@pytest.mark.parametrize("way", ["ctrl-c", "cancel"])
@contextlib.contextmanager
def standing_still(hosts: SshdHosts) -> Iterator[None]:
    """Stop the workers whose commands run, and let them go on in the end if nobody else did."""
    workers = {fleet.worker_of(pid) for host in hosts.hosts for pid in fleet.commands_of(Root(host.root))} - {0}
    assert workers
    for pid in workers:
        fleet.freeze(pid)
    try:
        yield
    finally:
        for pid in workers:
            fleet.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("way", ["ctrl-c", "cancel"])
def test_commands_of_workers_that_stand_still_are_ended(hosts: SshdHosts, bucket: Bucket, way: str) -> None:
    with bucket.start(bucket.command("sleep {mark}")) as client:
        bucket.await_begun(KEYS)
        with standing_still(hosts):
            began = time.monotonic()
            if way == "ctrl-c":
                client.send_signal(signal.SIGINT)
            else:
                code, _, err = fleet.sshmap(bucket.typed, "cancel")
                assert code == 0, err
            wait_until(lambda: nothing_lives(hosts, bucket.mark), limit=GONE_WITHIN + began - time.monotonic())
            _, err = client.communicate(timeout=20)
    assert client.returncode == 130, err
    check_over(bucket.row())


def test_run_of_a_killed_client_is_cancelled_by_another(hosts: SshdHosts, bucket: Bucket) -> None:
    with bucket.start(bucket.command("sleep {mark}")) as client:
        bucket.await_begun()
        fleet.kill(client.pid)
        client.communicate(timeout=20)
    assert bucket.row()["state"] == "running"
    assert fleet.commands_of(Root(hosts.hosts[0].root))
    code, _, err = fleet.sshmap(bucket.typed, "cancel")
    assert code == 0, err
    assert nothing_lives(hosts, bucket.mark)
    check_over(bucket.row())


def test_run_that_is_cancelled_while_its_tasks_are_queued_gets_no_more_and_is_given_again(
    hosts: SshdHosts, typed: Path, tmp_path: Path
) -> None:
    bucket, gate = Bucket(typed, tmp_path, MANY), tmp_path / "gate"
    what = f"test -e {gate} || exec sleep {bucket.mark}; cat"
    with bucket.start(bucket.command(what)) as client:
        bucket.await_begun(1)
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=20)
    assert client.returncode == 130, err
    row = bucket.row()
    assert (row["state"], row["left"], row["done"], row["failed"]) == ("cancelled", 0, 0, 0)
    assert nothing_lives(hosts, bucket.mark)
    gate.touch()
    with Cluster(typed) as cluster:
        result = cluster.map(bucket.indir, bucket.outdir, bucket.command(what))
        assert (result.done, result.failed, result.kept) == (MANY, 0, 0)
        cluster.get_tree(bucket.outdir, tmp_path / "results")
    assert {file.name: file.read_bytes() for file in (tmp_path / "results").iterdir()} == bucket.expected()


def test_cancel_of_a_fanout_whose_files_wait_for_a_peer(hosts: SshdHosts, bucket: Bucket) -> None:
    """They are not brought there later, and other work may make these keys; the same command makes what an undisturbed one does."""
    gate = bucket.folder / "gate"
    command = (
        f"until [ -e {gate} ]; do read -rt 0.02 <> <(:) || true; done; "
        "for part in 000_x 001_x; do cp $SSHMAP_FILE $part; echo $part; done"
    )
    with bucket.start(command, "--detach", verb="fanout") as client:
        assert client.communicate(timeout=20)[1] == b""
    with unreachable(hosts.hosts[1]):
        gate.touch()
        wait_until(lambda: bucket.waits(Root(hosts.hosts[0].root)), what="no file waits for the peer")
        code, _, err = fleet.sshmap(bucket.typed, "cancel")
        assert (code, b"h1 not told" in err) == (3, True), err
        assert not bucket.waits(Root(hosts.hosts[0].root))
        assert not list(Root(hosts.hosts[0].root).outbox.iterdir())
    assert fleet.sshmap(bucket.typed, "ls")[0] == 0
    row = bucket.row()
    assert (row["state"], row["left"], int(str(row["cancelled"])) + int(str(row["done"]))) == ("cancelled", 0, KEYS), (
        row
    )
    with Cluster(bucket.typed) as cluster:
        result = cluster.fanout(bucket.indir, bucket.outdir, command)
        assert (result.failed, result.done + result.kept) == (0, KEYS)
        found = {
            row.path.split("/", 2)[2]: cluster.get(f"sm://{row.path}")
            for row in cluster.ls(bucket.outdir, recursive=True)
        }
    assert found == {
        f"{name}/{part}": content for name, content in bucket.expected().items() for part in ("000_x", "001_x")
    }
