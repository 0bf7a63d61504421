"""From the laptop to a host: picks the transport the inventory names.

With ``auto`` that is fabric, whose connections are made in this process, and the `ssh` program
for large content: all of fabric's connections share one Python process to encrypt in, each `ssh`
is a process of its own.
"""

from __future__ import annotations

import functools
import shutil

from sshmap.inventory import Host
from sshmap.transport import local
from sshmap.transport.channel import Channel
from sshmap.transport.launching import launch
from sshmap.transport.target import Target


def dial(host: Host, *, warm: bool = True, bulk: bool = False) -> Channel:
    """Open a channel to a host's agent.

    Args:
        host: where to.
        warm: whether an agent inside the daemon may answer.
        bulk: whether large content is to go through it.

    Raises:
        HostLost: the host cannot be reached.
        HostNotReady: it can, but has no agent.
        Refused: others could alter its root.
    """
    if host.is_local:
        return local.connect(host.root) if warm else local.start_child(host.root)
    return open_command(host, launch(host.root, "serve" if warm else "alone"), bulk=bulk)


def open_command(host: Host, command: list[str], *, bulk: bool = False) -> Channel:
    """Open a channel to any command on an ssh host."""
    # imported only when used: paramiko takes longer to load than everything else together
    if _through_program(host, bulk=bulk):
        from sshmap.transport import openssh

        return openssh.connect(target_of(host), command)
    from sshmap.transport import fabric

    return fabric.connect(target_of(host), command)


def _through_program(host: Host, *, bulk: bool) -> bool:
    return host.transport == "openssh" or (host.transport == "auto" and bulk and _has_program())


@functools.cache
def _has_program() -> bool:
    return shutil.which("ssh") is not None


def target_of(host: Host) -> Target:
    """Return where ssh has to go for a host."""
    return Target(
        address=host.address, port=host.port, user=host.user, identity_file=host.identity_file, gateway=host.gateway,
        config=host.ssh_config,
    )  # fmt: skip
