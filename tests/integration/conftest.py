"""Fixtures of the integration tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.inventory import Inventory
from tests.conftest import files_below, wait_until
from tests.integration import fleet

_numbers = itertools.count()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A tree outside every root; it is an error if a test's commands or keys change it."""
    top = tmp_path / "canary"
    (top / "folder").mkdir(parents=True)
    (top / "file").write_bytes(b"do not touch")
    (top / "folder" / "inner").write_bytes(b"nor this")
    (top / "file").chmod(0o640)
    before = fleet.snapshot(top)
    yield top
    assert fleet.snapshot(top) == before
    assert not [path for path in files_below(tmp_path) if path.name.endswith("pwned")]


@pytest.fixture
def inventory_file(inventory: Inventory, tmp_path: Path) -> Path:
    """The inventory as a file, for the command line."""
    return fleet.write_inventory(inventory, tmp_path / "inventory.toml")


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Path]:
    """Where a test's own roots lie; whatever runs there is ended afterwards."""
    top = tmp_path / "roots"
    yield top
    fleet.end_all_at(top)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    """Three hosts that all tests of a module share, each in a bucket of its own; nothing may be left of them."""
    top = tmp_path_factory.mktemp("shop")
    inventory = fleet.local_inventory(top)
    try:
        with pytest.MonkeyPatch.context() as patch, Cluster(inventory) as cluster:
            patch.setenv("HOME", str(top))
            cluster.up()
            yield inventory
        with Cluster(inventory) as cluster:
            cluster.down()
        wait_until(lambda: not fleet.processes_at(top), what="processes are left after down")
    finally:
        fleet.end_all_at(top)


@pytest.fixture
def shared(shop: Inventory) -> Iterator[Cluster]:
    """A client of the shared hosts."""
    with Cluster(shop) as cluster:
        yield cluster


@pytest.fixture
def bucket() -> str:
    """A bucket that no other test uses."""
    return f"b{next(_numbers)}"
