"""From the laptop to a host: picks the transport the inventory names."""

from __future__ import annotations

from sshmap.inventory import Host
from sshmap.transport import local
from sshmap.transport.channel import Channel
from sshmap.transport.target import Target


def dial(host: Host, *, warm: bool = True) -> Channel:
    """Open a channel to a host's agent.

    Args:
        host: where to.
        warm: whether an agent inside the daemon may answer.

    Raises:
        HostLost: the host cannot be reached.
        HostNotReady: it can, but has no agent.
    """
    if host.is_local:
        return local.connect(host.root) if warm else local.start_child(host.root)
    return open_command(host, [launcher(host.root), "serve" if warm else "alone"])


def open_command(host: Host, command: list[str]) -> Channel:
    """Open a channel to any command on an ssh host."""
    # each only where it is used: paramiko takes longer to load than everything else together
    if host.transport == "openssh":
        from sshmap.transport import openssh

        return openssh.connect(target_of(host), command)
    from sshmap.transport import fabric

    return fabric.connect(target_of(host), command)


def target_of(host: Host) -> Target:
    """Return where ssh has to go for a host."""
    return Target(
        address=host.address, port=host.port, user=host.user, identity_file=host.identity_file, gateway=host.gateway,
        config=host.ssh_config,
    )  # fmt: skip


def launcher(root: str) -> str:
    """Return the agent's launcher below a root, relative to the home directory where the root is."""
    return f"{root.removeprefix('~/')}/agent"
