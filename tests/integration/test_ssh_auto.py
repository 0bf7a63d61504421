"""The transport `auto` over real sshd: what is large goes through the ssh program, and everything arrives whichever way it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.conversations import BULK
from sshmap.transport import fabric, openssh
from sshmap.transport.channel import Channel
from sshmap.transport.target import Target
from tests import sshd
from tests.sshd import SshdHosts

make_sshd_hosts = sshd.make_sshd_hosts

FILES = {
    "000_small": b"content",
    "000_large": b"0123456789abcdef" * (BULK // 16 + 1),
    "001_small": b"x",
    "001_empty": b"",
}


@pytest.fixture(scope="module")
def standing(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """Two hosts that are up; each test works in a bucket of its own."""
    hosts = make_sshd_hosts()
    hosts.add(2)
    with Cluster(hosts.inventory("auto")) as cluster:
        assert cluster.up()[1] == {}
    return hosts


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The transports of the connections that were made, in order."""
    made: list[str] = []

    def noted(name: str, connect: Callable[[Target, list[str]], Channel]) -> Callable[[Target, list[str]], Channel]:
        def connected(target: Target, command: list[str]) -> Channel:
            made.append(name)
            return connect(target, command)

        return connected

    monkeypatch.setattr(fabric, "connect", noted("fabric", fabric.connect))
    monkeypatch.setattr(openssh, "connect", noted("openssh", openssh.connect))
    return made


@pytest.fixture
def cluster(standing: SshdHosts, ways: list[str]) -> Iterator[Cluster]:
    """A client that has no connection yet."""
    del ways
    with Cluster(standing.inventory("auto")) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files small and large for both hosts."""
    (tmp_path / "tree").mkdir()
    for name, content in FILES.items():
        (tmp_path / "tree" / name).write_bytes(content)
    return tmp_path / "tree"


def below(top: Path) -> dict[str, bytes]:
    """Return the files of a directory."""
    return {path.name: path.read_bytes() for path in top.iterdir()}


def test_copying_alone_takes_one_session_a_host_through_the_ssh_program(
    cluster: Cluster, ways: list[str], tree: Path, tmp_path: Path
) -> None:
    cluster.put_tree(tree, "sm://alone/").check()
    cluster.get_tree("sm://alone/", tmp_path / "out").check()
    assert below(tmp_path / "out") == FILES
    assert cluster.get("sm://alone/000_large") == FILES["000_large"]
    assert ways == ["openssh", "openssh"]


def test_beside_other_work_large_content_alone_goes_through_the_ssh_program(
    cluster: Cluster, ways: list[str], tree: Path, tmp_path: Path
) -> None:
    assert [*cluster.ls("sm://beside/")] == []
    cluster.put_tree(tree, "sm://beside/").check()
    cluster.get_tree("sm://beside/", tmp_path / "out").check()
    assert below(tmp_path / "out") == FILES
    assert cluster.get("sm://beside/001_small") == b"x"
    assert sorted(ways) == ["fabric", "fabric", "openssh"]
