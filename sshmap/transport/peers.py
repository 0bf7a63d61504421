"""From host to host: always the `ssh` program, or a child process where the peer is on this machine."""

from __future__ import annotations

from sshmap.errors import HostLost
from sshmap.model import Peer
from sshmap.transport import local
from sshmap.transport.channel import Channel


def dial_peer(peer: Peer, root: str) -> Channel:
    """Open a channel to a peer's agent.

    Args:
        peer: where to.
        root: the calling host's root, which holds its key and the cluster's known_hosts.

    Raises:
        HostLost: the peer cannot be reached.
    """
    if peer.connect == "local":
        return local.connect(peer.root)
    raise HostLost(f"no way from {root} to {peer.name}", host=peer.name)
