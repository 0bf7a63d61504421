"""Memory stays bounded at the size that is promised: 20 GB in one stream, a million keys, endless stderr; promise 10."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.store.commit import Store
from sshmap.store.digest import EMPTY
from tests.fault.nights import FAULTS, NIGHT
from tests.fault.table import TABLE, Row
from tests.integration import conftest, fleet, test_memory
from tests.integration.test_memory import CLIENT_LIMIT, peaks, run_client

roots, inventory_path = conftest.roots, test_memory.inventory_path

#: by FAULTS, as what lasts long does
SIZE, KEYS = (20 << 30, 1_000_000) if FAULTS >= 500 else (2 << 30, 200_000)
STDERR = SIZE // 2
#: seconds that a client may take
LIMIT = 1800.0
#: bytes of memory of a process on a host: 64 MiB, and 8 MiB for its one stream
AGENT_LIMIT = (64 + 8) << 20

pytestmark = pytest.mark.timeout(NIGHT)


def note(row: Row, roots: Path, *clients: int) -> None:
    """Put down what memory clients and the processes below a path had at most, and look that it is bounded."""
    measured = peaks(roots)
    assert measured
    largest = max(measured.values())
    row.take(f"{largest >> 20} MiB at most on the host", *(f"{client >> 20} MiB in the client" for client in clients))
    over = {name: peak for name, peak in measured.items() if peak > AGENT_LIMIT}
    assert not over, over
    assert max(clients, default=0) < CLIENT_LIMIT


def test_stream_of_full_size_passes_through_bounded_memory(roots: Path, inventory_path: Path) -> None:
    row = TABLE.add(f"a stream of {SIZE / 1e9:.0f} GB in, through a command and out", "10")
    with row.watched("stream"), Cluster(inventory_path) as cluster:
        cluster.up()
        clients = [run_client(inventory_path, SIZE, "put", LIMIT)]
        assert cluster.map("sm://big/", "sm://out/", "wc -c").done == 1
        assert cluster.get("sm://out/key").strip() == b"%d" % SIZE
        clients.append(run_client(inventory_path, SIZE, "get", LIMIT))
        note(row, roots, *clients)
        cluster.down(purge=True)
    row.check()


def test_a_million_keys_pass_through_bounded_memory(roots: Path, inventory_path: Path) -> None:
    row = TABLE.add(f"{KEYS:,} keys listed, planned and cancelled", "10")
    with row.watched("keys"), Cluster(inventory_path) as cluster:
        cluster.up()
        store = Store(fleet.root_of(cluster.inventory, "h0"))
        with contextlib.closing(store), store.ledger.change() as db:
            rows = ((f"many/dir{number // 1000}/key-{number:08}", 0, EMPTY, 0) for number in range(KEYS))
            db.executemany("INSERT INTO keys (name, size, digest, mtime, inode, ctime) VALUES (?, ?, ?, ?, 0, 0)", rows)
            store.ledger.bump()
        clients = [run_client(inventory_path, KEYS, "ls", LIMIT)]
        cluster.map("sm://many/", "sm://maps/", "cat", detach=True)
        cluster.cancel("last")
        note(row, roots, *clients)
        cluster.down(purge=True)
    row.check()


def test_endless_stderr_passes_through_bounded_memory(roots: Path, inventory_path: Path) -> None:
    row = TABLE.add(f"{STDERR / 1e9:.0f} GB of stderr", "10")
    with row.watched("stderr"), Cluster(inventory_path) as cluster:
        cluster.up()
        cluster.put(b"x", "sm://in/k")
        with pytest.raises(JobFailed):
            cluster.map("sm://in/", "sm://out/", f"head -c {STDERR} /dev/zero >&2; exit 3")
        note(row, roots)
        cluster.down(purge=True)
    row.check()
