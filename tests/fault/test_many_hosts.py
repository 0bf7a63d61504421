"""More hosts than are connected to at once: every verb is served on each of them, and nothing is left in the end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed, JobResult
from sshmap.client.listing import Placed
from sshmap.errors import HostLost
from sshmap.inventory import Inventory
from sshmap.store.layout import Root
from tests.conftest import files_below, processes_below, wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

HOSTS = 80
FILES = 10_000
KEYS = 200
#: times a fan-out is asked for, which goes on where it was
TRIES = 5
#: ways to other hosts that a courier keeps open at most
WAYS = 8
CONTENT = {f"d{n % 100}/k{n}": b"content %d" % n for n in range(FILES)}
INPUTS = {f"k{n}": b"%d" % n for n in range(KEYS)}
#: two files, on hosts of their own
SPREAD = 'for n in a b; do cat "$SSHMAP_FILE" > $n$filename; echo $n$filename; done'

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(params=["local", "ssh"])
def inventory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Inventory]:
    """Many hosts, of which nothing runs yet."""
    if request.param == "local":
        yield fleet.local_inventory(tmp_path / "hosts", hosts=HOSTS, idle_stop=1800.0)
        fleet.end_all_at(tmp_path / "hosts")
    else:
        with SshdHosts(tmp_path / "hosts") as hosts:
            hosts.add(HOSTS, config=["MaxStartups 100"])
            yield hosts.inventory("auto", idle_stop=1800.0)


def write_files(top: Path, content: dict[str, bytes]) -> Path:
    """Write files below a directory and return it."""
    for name, value in content.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(value)
    return top


def copied_out(cluster: Cluster, prefix: str, top: Path) -> dict[str, bytes]:
    """Copy all below a prefix out and return it."""
    cluster.get_tree(prefix, top)
    return {str(file.relative_to(top)): file.read_bytes() for file in files_below(top)}


def spread_out(cluster: Cluster) -> JobResult:
    """Fan out to the end; on one machine hosts by the dozen log in to each other so slowly that some seem to be lost."""
    failed: JobFailed | None = None
    for _ in range(TRIES):
        try:
            return cluster.fanout("sm://keys/", "sm://spread/", SPREAD)
        except JobFailed as exc:
            if exc.exit_code != HostLost.exit_code:
                raise
            failed = exc
    raise AssertionError(f"not after {TRIES} tries: {failed}")


class Ways:
    """Looks all the time how many ways to others the hosts keep open.

    Args:
        inventory: the hosts.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._roots = [Root(host.root) for host in inventory.hosts]
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            for root in self._roots:
                courier = fleet.process_of(root, "courier")
                ways = [pid for pid in fleet.children_of(courier) if fleet.arguments_of(pid).startswith("ssh ")]
                self.most = max(self.most, len(ways))

    def close(self) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join(30)


def test_cluster_of_many_hosts_serves_every_verb_on_all_of_them(inventory: Inventory, tmp_path: Path) -> None:
    names = {host.name for host in inventory.hosts}
    with Cluster(inventory) as cluster:
        statuses, failures = cluster.up()
        assert (set(statuses), failures) == (names, {})
        assert cluster.put_tree(write_files(tmp_path / "in", CONTENT), "sm://in/").fresh == FILES
        rows = [row for row in cluster.ls("sm://in/", recursive=True) if isinstance(row, Placed)]
        assert ([row.path for row in rows], {row.host for row in rows}) == (
            sorted(f"in/{name}" for name in CONTENT),
            names,
        )
        assert copied_out(cluster, "sm://in/", tmp_path / "out") == CONTENT

        cluster.put_tree(write_files(tmp_path / "keys", INPUTS), "sm://keys/")
        result = cluster.map("sm://keys/", "sm://mapped/", "sed s/^/m/")
        assert (result.done, set(result.hosts)) == (KEYS, names)
        assert copied_out(cluster, "sm://mapped/", tmp_path / "mapped") == {k: b"m" + v for k, v in INPUTS.items()}

        with contextlib.closing(Ways(inventory)) as ways:
            result = spread_out(cluster)
            assert result.done + result.kept == KEYS
        assert ways.most <= WAYS
        spread = {f"{name}/{n}{name}": value for name, value in INPUTS.items() for n in "ab"}
        assert copied_out(cluster, "sm://spread/", tmp_path / "spread") == spread
        assert cluster.merge("sm://spread/", "sm://merged/", "xargs cat").done == 2 * KEYS
        merged = {f"{n}{name}": value for name, value in INPUTS.items() for n in "ab"}
        assert copied_out(cluster, "sm://merged/", tmp_path / "merged") == merged
        cluster.down(purge=True)
    assert not [host.name for host in inventory.hosts if Path(host.root).exists()]
    wait_until(lambda: not processes_below(Path(inventory.hosts[0].root)), what="processes are left after down")
