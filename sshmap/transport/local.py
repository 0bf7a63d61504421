"""To a host on this machine: the warm agent of its daemon if there is one, else a child process.

The child is started with the same arguments as over ssh. The warm agent is the same
code, already imported, behind a Unix socket that only the owner of the root can reach.
"""

from __future__ import annotations

import os
import socket
import subprocess

from sshmap.store.layout import check_root
from sshmap.transport.argv import agent_argv
from sshmap.transport.channel import FdChannel
from sshmap.transport.sockets import connected
from sshmap.transport.unix import BUFFER, UnixChannel


def connect(root: str) -> FdChannel:
    """Open a channel to the agent of a root on this machine.

    Raises:
        Refused: others could alter the root.
    """
    check_root(root)
    path = os.path.join(root, "agent.sock")
    return dial_socket(path) or start_child(root)


def dial_socket(path: str) -> FdChannel | None:
    """Connect to a warm agent by its socket; None if there is none."""
    sock = connected(path)
    return UnixChannel(sock) if sock else None


def start_child(root: str) -> FdChannel:
    """Start an agent as a child process that lives as long as the channel.

    Raises:
        Refused: others could alter the root.
    """
    check_root(root)
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            agent_argv("alone", root),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    fd = ours.detach()
    return FdChannel(fd, fd, on_close=lambda: _end(child))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for a child whose input has ended; it has five seconds to notice."""
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
