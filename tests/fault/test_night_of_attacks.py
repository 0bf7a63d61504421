"""A night on three real hosts with commands that attack them, another machine at a host's address, and a host that is lost for good."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.client.listing import Placed
from sshmap.errors import HostLost, SshmapError
from tests import sshd
from tests.attacks import ATTACKS
from tests.conftest import processes_below, wait_until
from tests.fault import nights
from tests.fault.nights import CUTS, FAULTS, NIGHT, WORKERS, dice_of, suffer_often
from tests.fault.table import SEED, TABLE
from tests.integration import fleet
from tests.kills import Client, is_over_after
from tests.pipeline import Pipeline
from tests.sshd import Sshd, SshdHosts

make_sshd_hosts, sshd_hosts = sshd.make_sshd_hosts, sshd.sshd_hosts
hosts, pipeline = nights.hosts, nights.pipeline

pytestmark = pytest.mark.timeout(NIGHT)

#: keys that a command is run over, of which it attacks on one
KEYS = 12
#: threads that share one Cluster, and how many calls each makes
THREADS, CALLS = 8, max(4, FAULTS // 10)


def test_command_that_attacks_its_host_fails_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    dice = dice_of("attacks")
    row = TABLE.add("command that attacks what it reaches", "1 4 8 13 18 19")
    (tmp_path / "in").mkdir()
    for number in range(KEYS):
        (tmp_path / "in" / f"k{number}").write_text(f"text {number}\n")
    pipeline.succeed("cp", "-r", str(tmp_path / "in"), "sm://attacks/in/")
    for attack in dice.sample(ATTACKS, min(len(ATTACKS), max(4, FAULTS))):
        with row.watched(f"FAULT_SEED={SEED} {attack}"):
            row.take(attacked(pipeline, attack, f"k{dice.randrange(KEYS)}", before=dice.choice(["", "true; "])))
    row.check()


def attacked(pipeline: Pipeline, attack: str, victim: str, *, before: str) -> str:
    """Run a job of which one command attacks; every other output is right, and no input was touched; say what became of the one."""
    command = f'{before}if [ "$filename" = {victim} ]; then {attack}; fi; tr a-z A-Z'
    arguments = ("map", "--json", "--timeout", "5s", "sm://attacks/in/", "sm://attacks/out/", command)
    code, out, err = fleet.sshmap(pipeline.typed, *arguments)
    counts = json.loads(out)
    assert code in (0, 1, 7), (code, err)
    assert counts["ok"] + counts["failed"] == KEYS, counts
    assert {failure["key"] for failure in counts["failures"]} <= {f"sm://attacks/in/{victim}"}, counts
    wait_until(lambda: not pipeline.commands(), limit=nights.GONE_WITHIN, what=f"commands outlive {attack}")
    with Cluster(pipeline.typed) as cluster:
        for row in cluster.ls("sm://attacks/out/", recursive=True):
            assert isinstance(row, Placed)
            name = row.path.rsplit("/", 1)[1]
            content = f"TEXT {name[1:]}\n".encode()
            # an attack may have closed what the rest of its own command was to read or write
            assert cluster.get(row) in ({content, b""} if name == victim else {content}), name
    pipeline.succeed("verify", "sm://attacks/")
    pipeline.succeed("rm", "-r", "-y", "sm://attacks/out/")
    return f"exit {code}"


def test_other_machine_at_the_address_of_a_host_gets_nothing(pipeline: Pipeline) -> None:
    dice = dice_of("impostors")
    row = TABLE.add("another host key at a host's address", "5 7 14 18")

    def replace(client: Client, seconds: float) -> bool:
        if is_over_after(client, dice.uniform(0, seconds)):
            return False
        host = dice.choice(pipeline.hosts)
        with other_machine(host):
            is_over_after(client, dice.uniform(0.5, 5))
            code, out, err = fleet.sshmap(pipeline.typed, "ls", "-r", "sm://calm/")
            assert (code, out) == (3, b""), (code, out, err)
            assert f"error: {host.name}: " in err.decode(), err
            assert "host key" in err.decode(), err
            assert "Accepted" not in host.log
            assert not host.sessions
        return True

    suffer_often(pipeline, "impostors", itertools.repeat((row, replace)), CUTS, {0, 1, 3})
    row.check()


@contextlib.contextmanager
def other_machine(host: Sshd) -> Iterator[None]:
    """Have another machine answer at the address of a host meanwhile."""
    keys = [host.host_key, Path(f"{host.host_key}.pub")]
    kept = [key.read_bytes() for key in keys]
    host.renew_host_key()
    try:
        yield
    finally:
        host.stop()
        for key, content in zip(keys, kept, strict=True):
            key.write_bytes(content)
        host.start()


def test_host_that_is_lost_for_good_loses_the_keys_placed_on_it(sshd_hosts: SshdHosts, tmp_path: Path) -> None:
    dice = dice_of("losses")
    row = TABLE.add("a host's root deleted for good", "7 12 15 18")
    sshd_hosts.add(3)
    typed = sshd_hosts.write(sshd_hosts.inventory("openssh", workers=WORKERS))
    files = tmp_path / "files"
    files.mkdir()
    for number in range(40):
        (files / f"k{number}").write_text(f"{number}\n")
    with Cluster(typed) as cluster:
        cluster.up()
    for _ in range(CUTS):
        host = dice.choice(sshd_hosts.hosts)
        with row.watched(f"FAULT_SEED={SEED} {host.name}"):
            row.take(*lose(typed, files, host))
    row.check()


def lose(typed: Path, files: Path, host: Sshd) -> list[str]:
    """Copy files in, delete all that a host has, and look that just the keys placed there are missing and are copied in again."""
    typed_at(typed, 0, "sync", str(files), "sm://lost/")
    with Cluster(typed) as cluster:
        placed = {row.path.rsplit("/", 1)[1] for row in cluster.where("sm://lost/") if row.host == host.name}
    fleet.end_all_at(host.root)
    wait_until(lambda: not processes_below(host.home), what="processes of the host are left")
    shutil.rmtree(host.root)
    _, said = typed_at(typed, 3, "ls", "-r", "sm://lost/")
    assert f"error: {host.name}: " in said, said
    typed_at(typed, 0, "up")
    out, _ = typed_at(typed, 0, "ls", "-r", "--json", "sm://lost/")
    left = {str(entry["key"]).rsplit("/", 1)[1] for entry in json.loads(out)}
    assert left == {file.name for file in files.iterdir()} - placed
    _, said = typed_at(typed, 0, "sync", str(files), "sm://lost/")
    assert said.splitlines()[-1].startswith(f"done: {len(placed)} ok, 0 failed, {40 - len(placed)} kept"), said
    typed_at(typed, 0, "verify", "sm://lost/")
    return ["just the keys placed there"]


def typed_at(typed: Path, code: int, *arguments: str) -> tuple[bytes, str]:
    """Type a command, look how it ends, and return what it said."""
    ended, out, err = fleet.sshmap(typed, *arguments)
    assert ended == code, (arguments, ended, err.decode())
    return out, err.decode()


def test_threads_of_one_cluster_get_the_right_content_while_processes_are_killed(pipeline: Pipeline) -> None:
    dice = dice_of("threads")
    row = TABLE.add(f"kill -9 while {THREADS} threads share a Cluster", "2 7 16 17 18")
    with Cluster(pipeline.typed) as cluster:
        for number in range(KEYS):
            cluster.put(b"content %d;" % number * (1 + 5000 * number), f"sm://threads/in/k{number}")
        sharing = Sharing(cluster)
        with ThreadPoolExecutor(THREADS) as pool:
            calls = [pool.submit(sharing.call_often, random.Random(f"{SEED} {number}")) for number in range(THREADS)]
            while futures.wait(calls, timeout=dice.uniform(0.02, 0.3)).not_done:
                if victims := found(pipeline, dice):
                    fleet.kill(dice.choice(victims))
                    row.take()
            with row.watched(f"FAULT_SEED={SEED}"):
                for call in calls:
                    row.outcomes.update(call.result())
    row.check()


def found(pipeline: Pipeline, dice: random.Random) -> list[int]:
    """Return the agent of one of the hosts, or what watches over commands there, or each `ssh` of this process."""
    role = dice.choice(["ssh", "listener", "supervisor"])
    if role == "ssh":
        return [pid for pid in fleet.children_of(os.getpid()) if fleet.arguments_of(pid).startswith("ssh ")]
    pid = fleet.process_of(pipeline.roots[dice.choice(pipeline.hosts).name], role)
    return [pid] if pid else []


class Sharing:
    """A Cluster that several threads use at random.

    Args:
        cluster: holds keys below sm://threads/in/.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def call_often(self, dice: random.Random) -> list[str]:
        """Make many calls; return how each ended."""
        return [self._call(dice, f"{number}-{dice.randrange(1 << 40)}") for number in range(CALLS)]

    def _call(self, dice: random.Random, name: str) -> str:
        kind = dice.choice([self._get, self._put, self._list, self._map])
        for tried in range(20):
            try:
                kind(dice, name)
            except JobFailed:
                continue
            except SshmapError as exc:
                if exc.exit_code != HostLost.exit_code:
                    raise
                continue
            return "right" if not tried else "right when called again"
        raise AssertionError(f"{kind.__name__} does not succeed")

    def _get(self, dice: random.Random, _: str) -> None:
        number = dice.randrange(KEYS)
        assert self._cluster.get(f"sm://threads/in/k{number}") == b"content %d;" % number * (1 + 5000 * number)

    def _put(self, dice: random.Random, name: str) -> None:
        content = dice.randbytes(1000)
        self._cluster.put(content, f"sm://threads/put/{name}")
        assert self._cluster.get(f"sm://threads/put/{name}") == content

    def _list(self, _: random.Random, __: str) -> None:
        rows = self._cluster.ls("sm://threads/in/", recursive=True)
        assert [row.path for row in rows] == sorted(f"threads/in/k{number}" for number in range(KEYS))

    def _map(self, dice: random.Random, name: str) -> None:
        result = self._cluster.map("sm://threads/in/", f"sm://threads/map/{name}/", "cut -c 1-8")
        assert result.done + result.kept == KEYS
        number = dice.randrange(1, KEYS)
        assert self._cluster.get(f"sm://threads/map/{name}/k{number}") == b"content \n"
