r"""Handing a session that ssh started over to the agent in the daemon, together with stdin and stdout.

The daemon's agent has everything imported already, so it answers sooner than this process
could. It is asked only if it runs the same code; if it does not take the session within a
second, this process serves it. The exchange on the daemon's Unix socket::

    \0                         →            request; no client's marker begins with this byte
                               ←  \0        the daemon is ready
    \0 with stdin and stdout   →            the session, as file descriptors
                               ←  \0        taken; the connection ends with the session

This module runs before everything else, so it imports next to nothing. The socket lies in the
root, which only its owner can enter.
"""

from __future__ import annotations

import contextlib
import os
import socket

from sshmap.store.ownership import flaw
from sshmap.transport.sockets import connected

REQUEST = b"\0"
#: seconds that the warm agent may take to answer
SECONDS = 1.0
#: directory that holds the package: ``runtime/<id>`` of the root on a host where `up` has put it
_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def runtime_id() -> str:
    """Return the id of the code this process runs from; empty for an installed package."""
    above, name = os.path.split(_FOLDER)
    return name if os.path.basename(above) == "runtime" else ""


def pass_on(root: str) -> bool:
    """Have the warm agent serve stdin and stdout, and wait for the end; say whether it did."""
    connection = connected(os.path.join(root, "agent.sock")) if not flaw(root) and _is_same(root) else None
    if connection is None:
        return False
    with connection:
        try:
            connection.settimeout(SECONDS)
            connection.sendall(REQUEST)
            if connection.recv(1) != REQUEST:
                return False
            socket.send_fds(connection, [REQUEST], [0, 1])
            # the daemon may already be reading stdin, so this process serves the session only if the daemon closes
            # the connection without acknowledging
            connection.settimeout(None)
            if connection.recv(1) != REQUEST:
                return False
        except OSError:
            return False
        # sshd ends the session only when no process has them open
        os.close(0)
        os.close(1)
        with contextlib.suppress(OSError):
            connection.recv(1)
    return True


def _is_same(root: str) -> bool:
    """Say whether the daemon runs this code."""
    try:
        with open(os.path.join(root, "locks", "daemon.runtime"), encoding="ascii") as file:
            return file.read().strip() == runtime_id() != ""
    except OSError:
        return False


def admitted(connection: socket.socket) -> tuple[int, int] | None:
    """Take over a session and return its two descriptors; None if a client itself speaks on the connection.

    Raises:
        OSError: the other side is gone, or sends something else.
    """
    connection.settimeout(10 * SECONDS)
    if connection.recv(1, socket.MSG_PEEK) != REQUEST:
        return None
    connection.recv(1)
    connection.sendall(REQUEST)
    _, fds, _, _ = socket.recv_fds(connection, 1, 2)
    try:
        if len(fds) != 2:
            raise ConnectionResetError
        for fd in fds:
            os.set_inheritable(fd, False)  # noqa: FBT003  # takes no name
        connection.sendall(REQUEST)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds[0], fds[1]
