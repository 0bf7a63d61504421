"""Memory stays bounded, whatever passes through: promise 10, at a size that takes seconds."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.store.commit import Store
from sshmap.store.digest import EMPTY
from tests.integration import fleet

SIZE = 300 << 20
KEYS = 100_000
AGENT_LIMIT, CLIENT_LIMIT = 100 << 20, 256 << 20

#: Does what its last argument says and prints its own peak memory in bytes.
CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sshmap import Cluster

class Source:
    left = int(sys.argv[3])
    piece = bytes(range(256)) * 1024
    def read(self, size):
        count = min(size, self.left, len(self.piece))
        self.left -= count
        return self.piece[:count]

class Sink:
    size = 0
    def write(self, piece):
        self.size += len(piece)
        return len(piece)
    def flush(self):
        pass

with Cluster(Path(sys.argv[2])) as cluster:
    sink = Sink()
    if sys.argv[4] == "put":
        cluster.put(Source(), "sm://big/key")
    elif sys.argv[4] == "get":
        cluster.cat("sm://big/key", sink)
        assert sink.size == int(sys.argv[3]), sink.size
    else:
        assert sum(1 for _ in cluster.ls("sm://many/", recursive=True)) == int(sys.argv[3])
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.fixture
def inventory_path(roots: Path, tmp_path: Path) -> Path:
    """An inventory of one host."""
    return fleet.write_inventory(fleet.local_inventory(roots, hosts=1), tmp_path / "inventory.toml")


def run_client(inventory: Path, size: int, what: str, limit: float = 100) -> int:
    """Run a client in a process of its own and return its peak memory in bytes."""
    arguments = [sys.executable, "-c", CLIENT, str(fleet.PACKAGE), str(inventory), str(size), what]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return int(done.stdout)


def peaks(path: Path) -> dict[str, int]:
    """Return the peak memory in bytes of every process at work below a path."""
    found = {}
    for pid, arguments in fleet.processes_at(path).items():
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            found[f"{pid} {arguments[:60]}"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
    return found


def test_stream_passes_through_bounded_memory(roots: Path, inventory_path: Path) -> None:
    """300 MiB in, read by a command and out again: nobody holds them."""
    with Cluster(inventory_path) as cluster:
        cluster.up()
        assert run_client(inventory_path, SIZE, "put") < CLIENT_LIMIT
        assert cluster.map("sm://big/", "sm://out/", "wc -c").done == 1
        assert cluster.get("sm://out/key").strip() == b"%d" % SIZE
        assert run_client(inventory_path, SIZE, "get") < CLIENT_LIMIT
        measured = peaks(roots)
        assert measured
        assert not {name: peak for name, peak in measured.items() if peak > AGENT_LIMIT}
        cluster.down()


def test_listing_of_many_keys_passes_through_bounded_memory(roots: Path, inventory_path: Path) -> None:
    """100,000 keys are listed by client and agent row by row."""
    with Cluster(inventory_path) as cluster:
        cluster.up()
        store = Store(fleet.root_of(cluster.inventory, "h0"))
        with contextlib.closing(store), store.ledger.change() as db:
            rows = ((f"many/dir{number // 1000}/key-{number:08}", 0, EMPTY, 0) for number in range(KEYS))
            db.executemany("INSERT INTO keys (name, size, digest, mtime, inode, ctime) VALUES (?, ?, ?, ?, 0, 0)", rows)
            store.ledger.bump()
        assert run_client(inventory_path, KEYS, "ls") < CLIENT_LIMIT // 2
        measured = peaks(roots)
        assert not {name: peak for name, peak in measured.items() if peak > AGENT_LIMIT}
        cluster.down()


def test_long_output_passes_through_bounded_memory(roots: Path, inventory_path: Path) -> None:
    """A command that writes 200 MiB from nothing leaves its worker small."""
    with Cluster(inventory_path) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://in/k")
        assert cluster.map("sm://in/", "sm://out/", "head -c 200M /dev/zero").size == 200 << 20
        assert not {name: peak for name, peak in peaks(roots).items() if peak > AGENT_LIMIT}
        cluster.down()
