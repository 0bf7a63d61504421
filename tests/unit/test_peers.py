"""Which keys a host lets in as its peers': a host cannot pass off somebody else's key as its own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sshmap.agent.host import peers
from sshmap.agent.host.peers import forget, set_peers
from sshmap.errors import Refused
from sshmap.protocol.messages import SetPeers
from sshmap.store.layout import ClusterFile, Root

KEY, OTHER, USERS = "ssh-ed25519 AAAApeer", "ssh-ed25519 AAAAother", "ssh-ed25519 AAAAuser"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    made.create()
    made.write_cluster(ClusterFile(root_id="1", host="h0", ring=(("h0", 1.0),), fingerprint=""))
    return made


@pytest.fixture
def authorized(tmp_path: Path) -> Path:
    """The user's authorized_keys, with the key that the user logs in with."""
    path = tmp_path / "home" / ".ssh" / "authorized_keys"
    path.parent.mkdir()
    path.write_text(f"{USERS} me@laptop\n", encoding="utf-8")
    return path


def introduce(root: Root, *keys: tuple[str, str]) -> None:
    set_peers(root, SetPeers(peers=(), known_hosts=(), authorized=keys))


def test_each_peer_has_a_line_that_names_it(root: Root, authorized: Path) -> None:
    introduce(root, ("h1", KEY), ("h2", OTHER))
    lines = authorized.read_text(encoding="utf-8").splitlines()
    assert [line.partition("peer=")[2].partition('"')[0] for line in lines] == ["h1", "h2", ""]
    assert lines[2] == f"{USERS} me@laptop"
    forget(root)
    assert authorized.read_text(encoding="utf-8") == f"{USERS} me@laptop\n"


@pytest.mark.parametrize(
    "keys",
    [
        [("h1", USERS)],
        [("h1", KEY), ("h2", KEY)],
        [("h1", f"{KEY}\nssh-ed25519 AAAAmore")],
        [("h1", f'command="x" {KEY}')],
        [('h1" x', KEY)],
    ],
    ids=["the user's", "twice", "two lines", "with options", "a name that ends the command"],
)
def test_key_that_would_let_in_somebody_else_is_refused_and_changes_nothing(
    root: Root, authorized: Path, keys: list[tuple[str, str]]
) -> None:
    before = authorized.read_bytes()
    with pytest.raises(Refused):
        introduce(root, *keys)
    assert authorized.read_bytes() == before


def test_same_peers_told_again_are_no_strangers(root: Root, authorized: Path) -> None:
    introduce(root, ("h1", KEY))
    before = authorized.read_bytes()
    introduce(root, ("h1", KEY))
    assert authorized.read_bytes() == before


def renew(root: Root) -> None:
    """Make the root another one, as if it had been deleted by hand and brought up again."""
    root.write_cluster(msgspec.structs.replace(root.read_cluster(), root_id="2"))


def test_lines_of_a_root_that_was_deleted_by_hand_give_way(root: Root, authorized: Path) -> None:
    introduce(root, ("h1", KEY))
    renew(root)
    introduce(root, ("h1", KEY))
    assert authorized.read_text(encoding="utf-8").count(KEY) == 1
    forget(root)
    assert authorized.read_text(encoding="utf-8") == f"{USERS} me@laptop\n"


def test_lines_in_a_home_that_machines_share_are_another_machines(
    root: Root, authorized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "network_mount", lambda _: "nfs")
    introduce(root, ("h1", KEY))
    renew(root)
    introduce(root, ("h1", OTHER))
    assert authorized.read_text(encoding="utf-8").count("peer=h1") == 2
