"""Networks that are cut: a host that vanishes in the middle, hosts that do not reach each other, a host that stands still."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import NamedTuple

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.following import JobProgress
from sshmap.client.job_results import JobFailed
from sshmap.inventory import Inventory
from tests import netns, sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.netns import NetnsHosts
from tests.sshd import TRANSPORTS, Sshd, SshdHosts

netns_hosts, sshd_hosts = netns.netns_hosts, sshd.sshd_hosts

#: seconds within which a command has to end that meets a host which vanished
NAMED_WITHIN = 30.0
#: seconds after which a command is given up here
LIMIT = 60.0
#: two keys on each of three hosts
KEYS = {f"00{number}_k": b"content %d" % number for number in range(6)}
#: tasks that a host runs at once: one of each of four jobs may wait, and others still run
WORKERS = 5
AWAIT = "until [ -e {gate} ]; do read -rt 0.2 <> <(:) || true; done"
SPREAD = "for n in 0 1 2; do cat $SSHMAP_FILE > 00${n}_f; echo 00${n}_f; done"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str
    #: since the cut
    seconds: float


#: of commands, by verb and transport
Endings = dict[tuple[str, str], Ended]


def all_ended(processes: Mapping[tuple[str, str], Popen[bytes]]) -> Endings:
    """Wait for commands that run at once."""
    began = time.monotonic()

    def end(process: Popen[bytes]) -> Ended:
        try:
            out, err = process.communicate(timeout=LIMIT)
        except TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        return Ended(process.returncode, out, err.decode(), time.monotonic() - began)

    with ThreadPoolExecutor(len(processes)) as pool:
        return dict(zip(processes, pool.map(end, processes.values()), strict=True))


def files_below(top: Path) -> dict[str, bytes]:
    """Return the content of all files below a directory."""
    return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def apart(netns_hosts: NetnsHosts) -> NetnsHosts:
    """Three hosts in namespaces of their own that are up and hold two keys each, 00N_k on hN."""
    netns_hosts.add(3)
    with Cluster(netns_hosts.inventory("openssh", workers=WORKERS)) as cluster:
        assert cluster.up()[1] == {}
        for name, content in KEYS.items():
            cluster.put(content, f"sm://in/{name}")
    return netns_hosts


class Cut:
    """Jobs, a listing and copies over both transports at once, while the third host is cut off; then the jobs again.

    When the cut comes, each job has finished one task on each of the other hosts and runs one:
    all but those two wait for a gate that is opened after it.

    Args:
        hosts: the hosts.
        folder: an empty directory.
    """

    def __init__(self, hosts: NetnsHosts, folder: Path) -> None:
        self._hosts, self._folder = hosts, folder
        self._gate = folder / "gate"
        self._inventories = {
            transport: hosts.write(hosts.inventory(transport, workers=WORKERS)) for transport in TRANSPORTS
        }
        self._processes: list[Popen[bytes]] = []
        try:
            self.during, self.after = self._run()
        finally:
            self._gate.touch()
            for process in self._processes:
                process.kill()
                process.communicate()

    def _run(self) -> tuple[Endings, Endings]:
        """Return how the commands ended that met the cut, and how the jobs ended afterwards."""
        files = self._folder / "files"
        files.mkdir()
        for name, content in KEYS.items():
            (files / name).write_bytes(content)
        jobs = [(verb, transport) for verb in ("map", "fanout") for transport in TRANSPORTS]
        running = {job: self._start_job(*job) for job in jobs}
        wait_until(lambda: all(self._is_in_the_middle(*job) for job in jobs), limit=40, what="jobs are in the middle")
        with self._hosts.cut_off(self._hosts.hosts[2]):
            self._gate.touch()
            for transport in TRANSPORTS:
                running["ls", transport] = self._start(transport, "ls", "-r", "sm://in/")
                running["out", transport] = self._start(
                    transport, "cp", "-r", "sm://in/", str(self._folder / transport)
                )
                running["in", transport] = self._start(transport, "cp", "-r", str(files), f"sm://in-{transport}/")
            during = all_ended(running)
        return during, all_ended({job: self._start_job(*job) for job in jobs})

    def _start(self, transport: str, *arguments: str) -> Popen[bytes]:
        self._processes.append(fleet.start_sshmap(self._inventories[transport], *arguments))
        return self._processes[-1]

    def _start_job(self, verb: str, transport: str) -> Popen[bytes]:
        return self._start(transport, verb, "sm://in/", f"sm://{verb}-{transport}/", self.command(verb, transport))

    def command(self, verb: str, transport: str) -> str:
        """Return the command of a job: it notes that it ran, and most of its tasks wait for the gate."""
        ran = self._folder / f"{verb}-{transport}"
        ran.mkdir(exist_ok=True)
        wait = f"case $SSHMAP_NAME in 000_k|001_k) ;; *) {AWAIT.format(gate=self._gate)} ;; esac"
        return f"echo ran >> {ran}/$SSHMAP_NAME; {wait}; {'cat' if verb == 'map' else SPREAD}"

    def _is_in_the_middle(self, verb: str, transport: str) -> bool:
        made = sum(len(files_below(host.root / "data" / f"{verb}-{transport}")) for host in self._hosts.hosts)
        return self.ran(verb, transport).keys() >= {"003_k", "004_k"} and made == (2 if verb == "map" else 6)

    def ran(self, verb: str, transport: str) -> dict[str, int]:
        """Return how often the command of a job ran for each key."""
        return {
            name: content.count(b"ran") for name, content in files_below(self._folder / f"{verb}-{transport}").items()
        }

    def results(self, verb: str, transport: str, bucket: str = "") -> dict[str, bytes]:
        """Return what a job made, by name."""
        target = self._folder / "results" / f"{verb}-{transport}-{bucket}"
        with Cluster(self._inventories[transport]) as cluster:
            cluster.get_tree(f"sm://{bucket or f'{verb}-{transport}'}/", target)
        return files_below(target)

    def undisturbed(self, verb: str, transport: str) -> dict[str, bytes]:
        """Return what the same command makes when nothing happens."""
        bucket = f"calm-{verb}-{transport}"
        arguments = ("sm://in/", f"sm://{bucket}/", self.command(verb, f"{transport}-calm"))
        code, _, err = fleet.sshmap(self._inventories[transport], verb, *arguments)
        assert code == 0, err
        return self.results(verb, transport, bucket)


@pytest.fixture(scope="module")
def cut(apart: NetnsHosts, tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """A cut that all tests look at: it takes time to be sure that a host is gone."""
    return Cut(apart, tmp_path_factory.mktemp("cut"))


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """How the laptop reaches the hosts."""
    return str(request.param)


@pytest.mark.parametrize(("verb", "done"), [("map", 4), ("fanout", 2)])
def test_job_that_loses_a_host_ends_in_time_and_counts_its_keys(cut: Cut, verb: str, done: int, transport: str) -> None:
    ended = cut.during[verb, transport]
    assert (ended.code, ended.out) == (3, b""), ended
    assert ended.seconds < NAMED_WITHIN
    assert "h2 down: 2 of 6 keys of in/ not processed: " in ended.err
    # the tasks of the other hosts, but for those whose files belong to the lost one
    waiting = ", 2 waiting to send" if verb == "fanout" else ""
    assert f"done: {done} ok, 0 failed, 0 kept{waiting}, " in ended.err
    assert "hint: " in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("verb", ["map", "fanout"])
def test_same_command_after_a_cut_finishes_and_keeps_what_was_done(cut: Cut, verb: str, transport: str) -> None:
    ended = cut.after[verb, transport]
    assert ended.code == 0, ended
    assert cut.ran(verb, transport) == dict.fromkeys(KEYS, 1)
    assert cut.results(verb, transport) == cut.undisturbed(verb, transport)


@pytest.mark.parametrize("what", ["ls", "out", "in"])
def test_listing_or_copy_that_misses_a_host_is_an_error_that_names_it_in_time(
    cut: Cut, what: str, transport: str
) -> None:
    ended = cut.during[what, transport]
    assert (ended.code, ended.out) == (3, b""), ended
    assert ended.seconds < NAMED_WITHIN
    assert "error: h2: " in ended.err
    assert "Traceback" not in ended.err


#: bytes of each file that is to go from host to host
FILE = 1_000_000
HEAVY = (
    f"for n in 0 1 2; do yes $SSHMAP_NAME$n 2>/dev/null | head -c {FILE} > 00${{n}}_f || true; echo 00${{n}}_f; done"
)
#: bytes that have to leave the host they were made on
FOREIGN = 4 * 3 * FILE


def shuffled(hosts: NetnsHosts, inventory: Inventory, bucket: str) -> tuple[str, int]:
    """Fan out to large files; return what was said and how many bytes passed through the laptop."""
    before = hosts.network.passed
    code, _, err = fleet.sshmap(hosts.write(inventory), "fanout", "sm://in/", f"sm://{bucket}/", HEAVY)
    passed = hosts.network.passed - before
    assert (code, b"done: 6 ok, 0 failed" in err) == (0, True), err
    made = {name: content for host in hosts.hosts for name, content in files_below(host.root / "data" / bucket).items()}
    assert made == {f"{key}/00{n}_f": (b"%s%d\n" % (key.encode(), n) * FILE)[:FILE] for key in KEYS for n in range(3)}
    return err.decode(), passed


NOTE = "note: fan-out files went through this machine instead of from host to host"


def test_fanout_goes_from_host_to_host_and_not_through_the_laptop(apart: NetnsHosts, transport: str) -> None:
    said, passed = shuffled(apart, apart.inventory(transport), f"direct-{transport}")
    assert NOTE not in said
    assert passed < FOREIGN / 10


@pytest.mark.parametrize("shuffle", ["auto", "relay"])
def test_hosts_that_do_not_reach_each_other_are_relayed_with_a_note(
    apart: NetnsHosts, transport: str, shuffle: str
) -> None:
    with apart.parted():
        inventory = msgspec.structs.replace(apart.inventory(transport), shuffle=shuffle)
        said, passed = shuffled(apart, inventory, f"{shuffle}-{transport}")
    assert NOTE in said
    assert passed > 2 * FOREIGN


@contextlib.contextmanager
def stopped(host: Sshd) -> Iterator[None]:
    """Have the sshd of a host and its sessions stand still meanwhile: connections are accepted, and nobody speaks."""
    pids = host.tree()
    for pid in pids:
        fleet.freeze(pid)
    try:
        yield
    finally:
        for pid in pids:
            fleet.kill(pid, signal.SIGCONT)


def test_host_that_stands_still_is_given_up_in_time_and_its_keys_are_counted(
    sshd_hosts: SshdHosts, tmp_path: Path
) -> None:
    sshd_hosts.add(2)
    gate = tmp_path / "gate"
    with Cluster(sshd_hosts.inventory("openssh", workers=WORKERS)) as cluster:
        assert cluster.up()[1] == {}
        for name, content in KEYS.items():
            cluster.put(content, f"sm://in/{name}")
    done = dict.fromkeys(TRANSPORTS, 0)
    failed: dict[str, JobFailed] = {}

    def run(transport: str) -> None:
        def report(standing: JobProgress) -> None:
            done[transport] = standing.done

        command = f"case $SSHMAP_NAME in 000_k|001_k) ;; *) {AWAIT.format(gate=gate)} ;; esac; cat"
        with Cluster(sshd_hosts.inventory(transport, workers=WORKERS)) as cluster, pytest.raises(JobFailed) as raised:
            cluster.map("sm://in/", f"sm://{transport}/", command, report=report)
        failed[transport] = raised.value

    threads = [threading.Thread(target=run, args=(transport,)) for transport in TRANSPORTS]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: all(done[transport] == 2 for transport in TRANSPORTS),
        limit=40,
        what="each host has done one of its tasks",
    )
    with stopped(sshd_hosts.hosts[1]):
        began = time.monotonic()
        gate.touch()
        for thread in threads:
            thread.join(LIMIT)
        seconds = time.monotonic() - began
    assert seconds < NAMED_WITHIN
    for transport in TRANSPORTS:
        error = failed[transport]
        assert (error.exit_code, error.host, error.result.done) == (3, "h1", 4)
        assert error.message.startswith("h1 down: 2 of 6 keys of in/ not processed: ")
