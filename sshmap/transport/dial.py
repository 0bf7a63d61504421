"""From the laptop to a host: picks the transport the inventory names."""

from __future__ import annotations

from sshmap.errors import HostLost
from sshmap.inventory import Host
from sshmap.transport import local
from sshmap.transport.channel import Channel


def dial(host: Host, *, warm: bool = True) -> Channel:
    """Open a channel to a host's agent.

    Args:
        host: where to.
        warm: whether an agent inside the daemon may answer.

    Raises:
        HostLost: it cannot be reached.
    """
    if host.is_local:
        return local.connect(host.root) if warm else local.start_child(host.root)
    raise HostLost(f"no transport for {host.name}", host=host.name)
