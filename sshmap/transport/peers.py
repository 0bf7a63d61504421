"""From host to host: always the `ssh` program, or a child process where the peer is on this machine."""

from __future__ import annotations

from sshmap.errors import HostLost
from sshmap.model import Peer
from sshmap.transport import local, openssh
from sshmap.transport.channel import Channel
from sshmap.transport.target import Target


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
    if not peer.address:
        raise HostLost(f"this host was not told how to reach {peer.name}", hint="sshmap up", host=peer.name)
    target = Target(
        address=peer.address, port=peer.port, user=peer.user, identity_file=f"{root}/ssh/key",
        known_hosts=f"{root}/ssh/known_hosts", config="none",
    )  # fmt: skip
    return openssh.connect(target, ["sshmap-peer"])
