"""What a host knows of its peers: how to reach them, their host keys, and which of them may bring it files.

A peer's key is listed in the account's authorized_keys with a forced command that serves
couriers and nothing else. Our lines carry the root's id, so they can be told from all
others and taken out again; the file is replaced as a whole and keeps its mode.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import msgspec

from sshmap.agent.host.wake import wake
from sshmap.errors import Refused, SshmapError
from sshmap.model import Peer
from sshmap.protocol.messages import Hello, SetPeers
from sshmap.store.digest import digest_of
from sshmap.store.layout import ClusterFile, Root, network_mount
from sshmap.transport.launching import launch_line
from sshmap.transport.peers import dial_peer
from sshmap.transport.session import Session

_AUTHORIZED = Path("~/.ssh/authorized_keys")
#: as in `inventory/loading.py`: no character that means something to a shell
_NAME = re.compile(r"[A-Za-z0-9_.:@%+][A-Za-z0-9_.:@%+\-]*")
_PUBLIC_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-nistp\d+|ssh-rsa) [A-Za-z0-9+/=]+")


def set_peers(root: Root, request: SetPeers) -> None:
    """Write down what the client says of the peers; the same again changes nothing.

    Raises:
        Refused: a key has no known form, or is listed in authorized_keys already for other logins.
    """
    _check_keys(root, [key for _, key in request.authorized])
    lines = [_line(root, name, key) for name, key in request.authorized]
    cluster = root.read_cluster()
    if cluster.peers != request.peers:
        root.write_cluster(msgspec.structs.replace(cluster, peers=request.peers))
    _replace(root.ssh / "known_hosts", "".join(f"{line}\n" for line in request.known_hosts).encode(), 0o600)
    _authorize(root, lines)
    _replace(root.ssh / "peers", f"{digest_peers(request)} {_digest_files(root)}".encode(), 0o600)
    wake(root, "courier")


def forget(root: Root) -> None:
    """Take our lines out of authorized_keys: known by the root's id, or by the agent that they start if the id is lost."""
    _authorize(root, [])


def digest_peers(request: SetPeers) -> str:
    """Digest what a host is told of its peers."""
    return digest_of(msgspec.json.encode(request)).hex()


def peers_digest(root: Root) -> str:
    """Return the digest of what this host was told of its peers; empty if the files were changed since."""
    with contextlib.suppress(OSError, ValueError):
        told, present = (root.ssh / "peers").read_text(encoding="ascii").split()
        return told if present == _digest_files(root) else ""
    return ""


def _digest_files(root: Root) -> str:
    """Digest known_hosts and our lines of authorized_keys."""
    ours, _ = _sorted_lines(root, _AUTHORIZED.expanduser())
    return digest_of(b"".join(ours) + (root.ssh / "known_hosts").read_bytes()).hex()


def public_key(root: Root) -> str:
    """Return the key this host logs in to its peers with, without its comment."""
    with contextlib.suppress(OSError):
        return " ".join((root.ssh / "key.pub").read_text(encoding="ascii").split()[:2])
    return ""


def _tag(root: Root) -> str:
    return f"sshmap:{root.read_cluster().root_id}"


def _check_keys(root: Root, keys: list[str]) -> None:
    """Refuse keys that no host may name as its own.

    sshd uses the first line with a key: if a host named the user's own key, the user could log in as a peer only.

    Raises:
        Refused: a key has no known form, is named twice, or is in a line already that is not ours.
    """
    _, others = _sorted_lines(root, _AUTHORIZED.expanduser())
    taken = b"".join(others)
    for key in keys:
        if not _PUBLIC_KEY.fullmatch(key):
            raise Refused(f"not a public key: {key[:60]!r}")
        if keys.count(key) > 1 or key.split()[1].encode() in taken:
            raise Refused(f"a peer says that its key is one that logs in here as somebody else: {key[:60]}")


def _line(root: Root, name: str, key: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refused(f"not a host's name: {name[:60]!r}")
    return f'{_start(root)}{name}" {key} {_tag(root)}'


def _start(root: Root) -> str:
    """Return the beginning, up to the peer's name, of a line that lets a peer start this root's agent."""
    # sshd treats a backslash as an escape only before a double quote
    command = launch_line(str(root.path), "peer=").replace('"', '\\"')
    return f'restrict,command="{command}'


def _authorize(root: Root, ours: list[str]) -> None:
    """Put our lines before all others, so that taking them out again leaves every other byte as it was."""
    path = _AUTHORIZED.expanduser()
    former, others = _sorted_lines(root, path)
    fresh = [f"{line}\n".encode() for line in ours]
    after = b"".join(fresh + others)
    if fresh != former:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _replace(path, after, path.stat().st_mode & 0o777 if path.exists() else 0o600)


def _sorted_lines(root: Root, path: Path) -> tuple[list[bytes], list[bytes]]:
    """Return our lines of authorized_keys, and the others.

    Ours have the root's id, or start its agent: those are of a former root at its path, which was deleted by hand. But in a
    home that machines share over the network they may be of another machine's root, so there only the id counts.
    """
    tag, start = b"", _start(root).encode()
    with contextlib.suppress(SshmapError):
        tag = f" {_tag(root)}".encode()
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    former = not tag or not network_mount(path)
    ours = [
        line for line in lines if (tag and line.rstrip(b"\r\n").endswith(tag)) or (former and line.startswith(start))
    ]
    return ours, [line for line in lines if line not in ours]


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file as a whole or not at all."""
    path = Path(os.path.realpath(path))
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    fresh.touch(mode=mode)
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(path)


def open_peer(root: Root, peer: Peer) -> Session:
    """Open a session to a peer's agent as another host's courier.

    Raises:
        SshmapError: it cannot be reached, or refuses.
    """
    cluster: ClusterFile = root.read_cluster()
    hello = Hello(host=peer.name, ring=cluster.ring, caller=cluster.host)
    return Session(dial_peer(peer, str(root.path)), hello)
