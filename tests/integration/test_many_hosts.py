"""More hosts than are connected to at once, each with an agent in this process; tests/fault has them with their daemons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.agent.session.server import serve
from sshmap.client.listing import Placed
from sshmap.inventory import Host
from sshmap.store.layout import Root
from sshmap.transport import memory
from sshmap.transport.channel import Channel
from tests.conftest import files_below
from tests.cutting import SEAM, in_time
from tests.integration import fleet

HOSTS = 80
#: more than a client ever asked at the same time
AT_ONCE = 64
#: some everywhere, and on the last host more than a client reads ahead for it
CONTENT = {f"d{n % 7}/k{n}": b"content %d" % n for n in range(240)} | {f"079_k{n}": b"%d" % n for n in range(1200)}


def dial(host: Host, **options: bool) -> Channel:
    """Serve in a thread of this process."""
    return memory.connect(lambda channel: serve(Root(host.root), channel))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of many hosts."""
    monkeypatch.setattr(SEAM, dial)
    with Cluster(fleet.local_inventory(tmp_path / "hosts", hosts=HOSTS), autostart=False) as cluster:
        yield cluster


def test_copy_in_listing_copy_out_and_deletion_serve_all_of_many_hosts(many: Cluster, tmp_path: Path) -> None:
    for name, content in CONTENT.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    transfer = in_time(lambda: many.put_tree(tmp_path / "in", "sm://in/"))
    assert not isinstance(transfer, Exception)
    assert transfer.fresh == len(CONTENT)
    rows = [row for row in many.ls("sm://in/", recursive=True) if isinstance(row, Placed)]
    assert [row.path for row in rows] == sorted(f"in/{name}" for name in CONTENT)
    assert len({row.host for row in rows}) > AT_ONCE
    in_time(lambda: many.get_tree("sm://in/", tmp_path / "out"))
    out = tmp_path / "out"
    assert {str(file.relative_to(out)): file.read_bytes() for file in files_below(out)} == CONTENT
    assert many.rm("sm://in/", recursive=True).keys == len(CONTENT)
