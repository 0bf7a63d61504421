"""A place for the works: a temporary directory, clusters in it, and the end of both."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from sshmap.inventory import Inventory, builtin
from tests.benchmarks.inputs import make_tiny, make_trips
from tests.benchmarks.measure import call

CORES = len(os.sched_getaffinity(0))
_TINY = 5000
_TRIPS = 1_000_000_000


class Cluster:
    """A cluster, driven through the real command.

    Args:
        options: global options that name it.
        inventory: what they stand for.
    """

    def __init__(self, options: tuple[str, ...], inventory: Inventory) -> None:
        self._options = options
        self.inventory = inventory

    def argv(self, *words: str) -> list[str]:
        """Write out a command line."""
        script = Path(sys.executable).with_name("sshmap")
        start = [str(script)] if script.exists() else [sys.executable, "-m", "sshmap"]
        return [*start, *self._options, *words]

    def __call__(self, *words: str) -> None:
        """Run a command line to its end."""
        call(self.argv(*words))


class Arena:
    """Inputs and clusters, made when first asked for; gone with the end of the ``with`` block.

    Args:
        scale: size of the works as a multiple of what is stated.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._clusters: dict[int | None, Cluster] = {}
        self._held: set[str] = set()
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
        """Stop all clusters and delete everything, one failure notwithstanding."""
        for cluster in self._clusters.values():
            try:
                cluster("down", "--purge", "-y")
            except RuntimeError as exc:
                print(exc, file=sys.stderr)
        os.chdir("/")
        shutil.rmtree(self.top, ignore_errors=True)

    def cluster(self, hosts: int | None = None) -> Cluster:
        """Return a built-in local cluster that is up: the usual one, or one of so many hosts."""
        if hosts not in self._clusters:
            options = () if hosts is None else ("--local", str(hosts))
            self._clusters[hosts] = Cluster(options, builtin(hosts))
            self._clusters[hosts]("up")
        return self._clusters[hosts]

    def scaled(self, size: int) -> int:
        """Return a size as this run wants it."""
        return max(1, round(size * self._scale))

    @functools.cached_property
    def tiny(self) -> Path:
        """The 5,000 files of 100 bytes."""
        return make_tiny(self.top / "tiny", self.scaled(_TINY))

    @functools.cached_property
    def trips(self) -> Path:
        """The 24 CSV files of 1 GB together."""
        return make_trips(self.top / "trips", self.scaled(_TRIPS))

    def held(self, which: Literal["tiny", "trips"]) -> str:
        """Return where the usual cluster holds an input, copied in when first asked for."""
        source = self.tiny if which == "tiny" else self.trips
        if which not in self._held:
            self.cluster()("cp", "-r", str(source), f"sm://{which}/")
            self._held.add(which)
        return f"sm://{which}/"

    def fresh(self, name: str) -> Path:
        """Return an empty directory, whatever was there."""
        folder = self.top / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder
