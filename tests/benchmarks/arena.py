"""A place for the works: a temporary directory, clusters in it, and the end of both."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from sshmap.inventory import Inventory, builtin
from tests.benchmarks.inputs import make_big, make_tiny, make_trips
from tests.benchmarks.measure import call
from tests.conftest import end_processes
from tests.sshd import SshdHosts

CORES = len(os.sched_getaffinity(0))
#: hosts behind sshd, where a work does not say
SSH_HOSTS = 3
_TINY, _MANY, _SWARM = 5000, 100_000, 300_000
_TRIPS = 1_000_000_000
_BIG = 1 << 30
_HUGE = 4 << 30


class Cluster:
    """A cluster, driven through the real command.

    Args:
        options: global options that name it.
        inventory: what they stand for.
    """

    def __init__(self, options: tuple[str, ...], inventory: Inventory) -> None:
        self.options = options
        self._held: set[str] = set()
        self.inventory = inventory

    def argv(self, *words: str) -> list[str]:
        """Write out a command line."""
        script = Path(sys.executable).with_name("sshmap")
        start = [str(script)] if script.exists() else [sys.executable, "-m", "sshmap"]
        return [*start, *self.options, *words]

    def __call__(self, *words: str) -> None:
        """Run a command line to its end."""
        call(self.argv(*words))

    def holding(self, source: Path) -> str:
        """Return where it holds the files of a directory, copied in when first asked for."""
        prefix = f"sm://{source.name}/"
        if prefix not in self._held:
            self("cp", "-r", str(source), prefix)
            self._held.add(prefix)
        return prefix


class Arena:
    """Inputs and clusters, made when first asked for; gone with the end of the ``with`` block.

    Args:
        scale: size of the works as a multiple of what is stated.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._clusters: dict[int | None, Cluster] = {}
        self._ssh_clusters: dict[tuple[int, str], Cluster] = {}
        self._ssh_hosts: dict[int, SshdHosts] = {}
        self._sshd = contextlib.ExitStack()
        self._numbers = itertools.count()
        self.top = Path(tempfile.mkdtemp(prefix="sshmap-bench-"))

    def __enter__(self) -> Self:
        """Turn this process and its children to the temporary directory."""
        for name in [name for name in os.environ if name.startswith("SSHMAP_")]:
            del os.environ[name]
        os.environ["XDG_STATE_HOME"] = str(self.top / "state")
        os.environ["XDG_CONFIG_HOME"] = str(self.top / "config")
        os.chdir(self.top)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all clusters and delete everything, one failure or another Ctrl-C notwithstanding."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for cluster in self._clusters.values():
            try:
                cluster("down", "--purge", "-y")
            except RuntimeError as exc:
                print(exc, file=sys.stderr)
        try:
            # their daemons end with them, by force
            self._sshd.close()
        finally:
            end_processes(self.top)
            os.chdir("/")
            shutil.rmtree(self.top, ignore_errors=True)

    def cluster(self, hosts: int | None = None) -> Cluster:
        """Return a built-in local cluster that is up: the usual one, or one of so many hosts."""
        if hosts not in self._clusters:
            options = () if hosts is None else ("--local", str(hosts))
            self._clusters[hosts] = Cluster(options, builtin(hosts))
            self._clusters[hosts]("up")
        return self._clusters[hosts]

    def sshd(self, hosts: int = SSH_HOSTS) -> SshdHosts:
        """Return so many sshd, each number a set of its own."""
        if hosts not in self._ssh_hosts:
            started = self._sshd.enter_context(SshdHosts(self.top / f"ssh{hosts}"))
            started.add(hosts)
            self._ssh_hosts[hosts] = started
        return self._ssh_hosts[hosts]

    def ssh_cluster(self, transport: str = "auto", hosts: int = SSH_HOSTS) -> Cluster:
        """Return a cluster behind sshd that is up, with as many workers as a local one of so many hosts."""
        key = (hosts, transport)
        if key not in self._ssh_clusters:
            sshd, workers = self.sshd(hosts), builtin(hosts).hosts[0].workers
            inventory = sshd.inventory(transport, workers=workers)
            self._ssh_clusters[key] = Cluster(("-i", str(sshd.write(inventory))), inventory)
            self._ssh_clusters[key]("up")
        return self._ssh_clusters[key]

    def scaled(self, size: int) -> int:
        """Return a size as this run wants it."""
        return max(1, round(size * self._scale))

    @functools.cached_property
    def tiny(self) -> Path:
        """The 5,000 files of 100 bytes."""
        return make_tiny(self.top / "tiny", self.scaled(_TINY))

    @functools.cached_property
    def many(self) -> Path:
        """The 100,000 files of 100 bytes."""
        return make_tiny(self.top / "many", self.scaled(_MANY))

    @functools.cached_property
    def swarm(self) -> Path:
        """The 300,000 files of 100 bytes."""
        return make_tiny(self.top / "swarm", self.scaled(_SWARM))

    @functools.cached_property
    def trips(self) -> Path:
        """The 24 CSV files of 1 GB together."""
        return make_trips(self.top / "trips", self.scaled(_TRIPS))

    @functools.cached_property
    def fleet(self) -> Path:
        """The CSV files of 4 GB together: those of 1 GB, under four names each."""
        folder = self.top / "fleet"
        folder.mkdir()
        for path in self.trips.iterdir():
            for copy in range(4):
                (folder / f"{copy}{path.name}").hardlink_to(path)
        return folder

    @functools.cached_property
    def big(self) -> Path:
        """The file of 1 GiB."""
        return make_big(self.top / "big", self.scaled(_BIG))

    @functools.cached_property
    def huge(self) -> Path:
        """The file of 4 GiB."""
        return make_big(self.top / "huge", self.scaled(_HUGE))

    def held(self, which: Literal["tiny", "many", "swarm", "trips", "fleet"], cluster: Cluster | None = None) -> str:
        """Return where a cluster, the usual one unless named, holds an input."""
        source: Path = getattr(self, which)
        return (cluster or self.cluster()).holding(source)

    def unused(self, name: str) -> str:
        """Return a name with a number that no other call gives.

        For works that write thousands of files, which stay until the end: ext4 gives a deleted file's inode to
        no other for up to five minutes, and whoever makes a file meanwhile has to search past all of them,
        which makes 5,000 files up to thirty times as dear.
        """
        return f"{name}{next(self._numbers)}"

    def fresh(self, name: str) -> Path:
        """Return an empty directory, whatever was there."""
        folder = self.top / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder
