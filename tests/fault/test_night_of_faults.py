"""A night of random faults on three real hosts: whatever happens to a command, the same command finishes what it began."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.errors import DigestMismatch, HostLost, KeyExists, NothingMatched
from sshmap.inventory import Inventory
from tests import netns, sshd
from tests.conftest import wait_until
from tests.fault import nights
from tests.fault.nights import (
    CANCELS,
    CUTS,
    FAULTS,
    FILLS,
    FLIPS,
    GONE_WITHIN,
    NIGHT,
    STANDS_STILL,
    STOPS,
    WORKERS,
    WRITERS,
    dice_of,
    suffer_often,
)  # fmt: skip
from tests.fault.table import SEED, TABLE, Row
from tests.integration import fleet
from tests.integration.damages import flip, rot
from tests.kills import VICTIMS, Client, is_over_after, kill_at_random
from tests.netns import NetnsHosts
from tests.pipeline import Pipeline, ended
from tests.sshd import SshdHosts

make_sshd_hosts, netns_hosts = sshd.make_sshd_hosts, netns.netns_hosts
hosts, pipeline = nights.hosts, nights.pipeline

#: bytes of the small disk, and most of them that are left for a command
DISK, ROOM = 288 << 20, 1 << 20

pytestmark = pytest.mark.timeout(NIGHT)


def test_killed_command_typed_again_makes_what_it_makes_in_peace(pipeline: Pipeline) -> None:
    dice = dice_of("kills")
    bag = [victim for victim, _ in zip(itertools.cycle(VICTIMS), range(FAULTS), strict=False)]
    dice.shuffle(bag)
    rows = {victim: TABLE.add(f"kill -9 of {victim}", "1 3 4 5 8 13 16 18") for victim in VICTIMS}
    faults = ((rows[victim], kill_at_random(pipeline, victim, dice)) for victim in itertools.cycle(bag))
    suffer_often(pipeline, "kills", faults, FAULTS, {0, 1, 3, -signal.SIGKILL})
    for row in rows.values():
        row.check()


def test_command_whose_worker_stands_still_goes_on(pipeline: Pipeline) -> None:
    dice = dice_of("stops")
    row = TABLE.add(f"SIGSTOP of a worker, {STANDS_STILL:.0f} s, half of them cancelled", "4 5 8 12 18")

    def stop(client: Client, seconds: float) -> bool:
        if is_over_after(client, dice.uniform(0.3 * seconds, 0.7 * seconds)):
            return False
        while not (workers := list(filter(None, map(fleet.worker_of, pipeline.commands())))):
            if is_over_after(client, 0.02):
                return False
        worker = dice.choice(workers)
        fleet.freeze(worker)
        try:
            if dice.random() < 0.5:
                cancel_and_look(pipeline, client, "cancel")
            is_over_after(client, STANDS_STILL)
        finally:
            fleet.kill(worker, signal.SIGCONT)
        return True

    suffer_often(pipeline, "stops", itertools.repeat((row, stop)), STOPS, {0, 130})
    row.check()


def cancel_and_look(pipeline: Pipeline, client: Client, way: str) -> None:
    """Cancel what a command does; if that came in time, nothing of it lives some seconds later."""
    if way.startswith("cancel"):
        code, _, err = fleet.sshmap(pipeline.typed, *way.split())
        assert code == 0, (way, code, err)
    else:
        for _ in way.split():
            client.send_signal(signal.SIGINT)
    if client.wait(60) == 130:
        wait_until(lambda: not pipeline.commands(), limit=GONE_WITHIN, what=f"commands outlive {way}")


def test_cancelled_command_leaves_nothing_and_goes_on_when_typed_again(pipeline: Pipeline) -> None:
    dice = dice_of("cancels")
    row = TABLE.add("cancel, Ctrl-C once or twice", "4 5 8 9 18")

    def cancel(client: Client, seconds: float) -> bool:
        if is_over_after(client, dice.uniform(0, seconds)):
            return False
        cancel_and_look(pipeline, client, dice.choice(["Ctrl-C", "Ctrl-C Ctrl-C", "cancel", "cancel --now"]))
        return True

    suffer_often(pipeline, "cancels", itertools.repeat((row, cancel)), CANCELS, {0, 130})
    row.check()


@contextlib.contextmanager
def small_disk(top: Path) -> Iterator[Path]:
    """A small file system of its own in a file, mounted over the loop device."""
    image, disk = top / "image", top / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK)
    # root is refused space as everybody is
    _administer("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    _administer("mount", "-o", "loop", str(image), str(disk))
    try:
        yield disk
    finally:
        fleet.end_all_at(disk)
        _administer("umount", "-l", str(disk))


def _administer(*argv: str) -> None:
    """Run a program that root has."""
    subprocess.run(["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *argv], check=True)


@contextlib.contextmanager
def filled(disk: Path, room: int) -> Iterator[None]:
    """Leave only some bytes of a file system free meanwhile."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    try:
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, free - room))
        yield
    finally:
        ballast.unlink()


def with_small_disk(hosts: SshdHosts, disk: Path) -> Inventory:
    """Return an inventory whose second host has its root on a small disk, of which nothing is reserved."""
    first, second, third = hosts.inventory("openssh", workers=WORKERS).hosts
    second = msgspec.structs.replace(second, root=str(disk / "root"), reserve="1")
    return Inventory(hosts=(first, second, third), origin="test")


def test_command_on_a_full_disk_says_so_and_goes_on_where_there_is_space(tmp_path: Path) -> None:
    dice, numbers = dice_of("fills"), itertools.count()
    row = TABLE.add("disk full at a random point", "1 5 11 18")
    with small_disk(tmp_path) as disk, SshdHosts(tmp_path / "ssh") as hosts:
        hosts.add(3)
        pipeline = Pipeline(hosts, hosts.write(with_small_disk(hosts, disk)), tmp_path)
        with Cluster(pipeline.typed) as cluster:
            for number in range(3 * FILLS + 10):
                cluster.put(b"spare", f"sm://spare/001_{number}")

        def fill(client: Client, seconds: float) -> bool:
            if is_over_after(client, dice.uniform(0, seconds)):
                return False
            with filled(disk, dice.choice([0, dice.randrange(ROOM // 10), dice.randrange(ROOM)])):
                ended(client)
                pipeline.succeed("rm", "-y", f"sm://spare/001_{next(numbers)}")
            return True

        suffer_often(pipeline, "fills", itertools.repeat((row, fill)), FILLS, {0, 6})
        with row.watched("keys that were there before"):
            pipeline.succeed("verify")
    row.check()


def test_command_that_loses_a_host_ends_and_goes_on_when_it_is_back(
    netns_hosts: NetnsHosts, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dice = dice_of("cuts")
    row = TABLE.add("network cut and healed", "5 7 12 16 18")
    netns_hosts.add(3)
    typed = netns_hosts.write(netns_hosts.inventory("openssh", workers=WORKERS))
    pipeline = Pipeline(netns_hosts, typed, tmp_path_factory.mktemp("pipeline"))

    def cut(client: Client, seconds: float) -> bool:
        if is_over_after(client, dice.uniform(0, seconds)):
            return False
        host = dice.choice(netns_hosts.hosts)
        with netns_hosts.cut_off(host):
            is_over_after(client, dice.uniform(1, 40))
            code, out, err = fleet.sshmap(typed, "ls", "-r", "sm://calm/")
            assert (code, out, f"error: {host.name}: " in err.decode()) == (3, b"", True), (code, out, err)
        return True

    suffer_often(pipeline, "cuts", itertools.repeat((row, cut)), CUTS, {0, 3})
    row.check()


class Flipped:
    """Keys of which some are damaged on their hosts.

    Args:
        pipeline: the hosts.
        folder: an empty directory.
        row: where damages are counted.
    """

    def __init__(self, pipeline: Pipeline, folder: Path, row: Row) -> None:
        self._pipeline, self._dice, self._row = pipeline, dice_of("flips"), row
        self.files = folder / "files"
        self.files.mkdir()
        for number in range(2 * FLIPS):
            (self.files / f"k{number}").write_bytes(self._dice.randbytes(1 + number * 50))

    def damage(self, directory: str, count: int) -> set[str]:
        """Flip a bit in some keys of a directory and return their names."""
        found = [path for root in self._pipeline.roots.values() for path in (root.data / directory).iterdir()]
        chosen = self._dice.sample(sorted(found), count)
        for path in chosen:
            self._dice.choice((flip, rot))(path)
            self._row.injected += 1
        return {f"sm://{directory}/{path.name}" for path in chosen}

    def type(self, *arguments: str) -> tuple[int, object, str]:
        """Type a command and return exit code, what it printed as JSON, and what it said."""
        code, out, err = fleet.sshmap(self._pipeline.typed, *arguments, limit=300)
        return code, json.loads(out) if out else None, err.decode()

    def copy_in(self) -> None:
        """Copy all files in, which mends those that are damaged."""
        code, _, err = self.type("cp", "-r", "--json", str(self.files), "sm://flips/in/")
        assert code == 0, err
        self._row.outcomes["mended by cp"] += 1

    def map(self) -> tuple[int, object, str]:
        """Run a job over them."""
        return self.type("map", "--json", "sm://flips/in/", "sm://flips/out/", "cat")

    def verify(self, *options: str) -> tuple[int, set[str]]:
        """Return how `verify` ends and which keys it names."""
        code, rows, _ = self.type("verify", "--json", *options, "sm://flips/")
        assert isinstance(rows, list)
        return code, {damage["key"] for row in rows for damage in row["damages"]}

    def read(self, key: str) -> str:
        """Read a key and return whom the error names; it has to be one about its digest."""
        with Cluster(self._pipeline.typed) as cluster:
            try:
                cluster.get(key)
            except DigestMismatch as exc:
                return f"{exc}"
        raise AssertionError(f"{key} is damaged and can be read")


def test_flipped_bits_are_named_and_mended(pipeline: Pipeline, tmp_path: Path) -> None:
    row = TABLE.add("bit flipped in a key", "6 18")
    flipped = Flipped(pipeline, tmp_path, row)
    flipped.copy_in()
    with row.watched(f"FAULT_SEED={SEED}, inputs"):
        _damage_inputs(flipped, row)
    with row.watched(f"FAULT_SEED={SEED}, outputs"):
        damaged = flipped.damage("flips/out", FLIPS // 2)
        assert flipped.verify("--quarantine") == (5, damaged)
        code, counts, err = flipped.map()
        assert isinstance(counts, dict)
        assert (code, counts["ok"], counts["kept"]) == (0, len(damaged), 2 * FLIPS - len(damaged)), err
        assert flipped.verify() == (0, set())
        row.outcomes["outputs made again by the job"] += 1
    row.check()


def _damage_inputs(flipped: Flipped, row: Row) -> None:
    """Damage inputs; `verify`, readers and a job name them, `cp` mends them, and the job does the rest."""
    damaged = flipped.damage("flips/in", FLIPS)
    assert flipped.verify() == (5, damaged)
    for key in damaged:
        said = flipped.read(key)
        assert key.rsplit("/", 1)[1] in said, said
    row.outcomes["named by verify and reader"] += len(damaged)
    code, counts, err = flipped.map()
    assert isinstance(counts, dict)
    assert (code, counts["ok"], counts["failed"]) == (5, FLIPS, FLIPS), err
    assert {failure["key"] for failure in counts["failures"]} == damaged
    flipped.copy_in()
    assert flipped.verify() == (0, set())
    code, counts, err = flipped.map()
    assert isinstance(counts, dict)
    assert (code, counts["ok"], counts["kept"]) == (0, FLIPS, FLIPS), err


class Race:
    """Writers of one key with contents of their own, and one who reads it all the time.

    Args:
        typed: the inventory.
        key: the key.
        writers: how many.
    """

    def __init__(self, typed: Path, key: str, writers: int) -> None:
        self._typed, self._key = typed, key
        self.contents = [b"%d " % number * (1 + 1000 * number) for number in range(writers)]
        self.seen: set[bytes] = set()
        self._over = threading.Event()

    def run(self) -> list[str]:
        """Have all write at once and return how each ended."""
        line = threading.Barrier(len(self.contents))
        reader = threading.Thread(target=self._read)
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(self.contents)) as pool:
            clusters = [stack.enter_context(Cluster(self._typed)) for _ in range(0, len(self.contents), 10)]
            reader.start()

            def write(number: int) -> str:
                line.wait(60)
                return self._write(clusters[number // 10], self.contents[number])

            try:
                return list(pool.map(write, range(len(self.contents))))
            finally:
                self._over.set()
                reader.join(60)

    def _write(self, cluster: Cluster, content: bytes) -> str:
        for _ in range(10):
            try:
                cluster.put(content, self._key)
            except KeyExists:
                return "refused, exit 4"
            except HostLost:
                continue
            return "won"
        return "lost the host"

    def _read(self) -> None:
        with Cluster(self._typed) as cluster:
            while not self._over.is_set():
                with contextlib.suppress(NothingMatched, HostLost):
                    self.seen.add(cluster.get(self._key))
            self.seen.add(cluster.get(self._key))


def test_one_of_many_writers_wins_and_the_key_never_changes(pipeline: Pipeline) -> None:
    row = TABLE.add("writers that race for one key", "1 2 3")
    with row.watched(f"FAULT_SEED={SEED}"):
        race = Race(pipeline.typed, "sm://race/key", WRITERS)
        for again in (False, True):
            endings = race.run()
            row.injected += len(endings)
            row.outcomes.update(Counter(f"{ending}" for ending in endings))
            assert Counter(endings) == {"won": 1, "refused, exit 4": WRITERS - 1}, (again, endings)
            assert race.seen == {race.contents[endings.index("won")]}
    row.check()
