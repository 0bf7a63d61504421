r"""The door of the warm agent: a session that ssh started is passed on to it, together with stdin and stdout.

An agent of its own would first import what the one in the daemon has at hand. Only code of
the same runtime is asked, and what it does not take at once is served here. On its Unix socket::

    \0                         →            a knock; no marker begins so
                               ←  \0        somebody is there
    \0 with stdin and stdout   →            the session
                               ←  \0        taken; the connection ends with the session

Imports next to nothing, as it comes before everything else. Only owners of the root get here.
"""

from __future__ import annotations

import contextlib
import os
import socket

from sshmap.transport.sockets import connected

KNOCK = b"\0"
#: seconds that the warm agent may take to answer
SECONDS = 1.0
_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def runtime_id() -> str:
    """Return the id of the code this process runs from; empty for an installed package."""
    above, name = os.path.split(_FOLDER)
    return name if os.path.basename(above) == "runtime" else ""


def pass_on(root: str) -> bool:
    """Have the warm agent serve stdin and stdout, and wait for the end; say whether it did."""
    door = connected(os.path.join(root, "agent.sock")) if _is_same(root) else None
    if door is None:
        return False
    with door:
        try:
            door.settimeout(SECONDS)
            door.sendall(KNOCK)
            if door.recv(1) != KNOCK:
                return False
            socket.send_fds(door, [KNOCK], [0, 1])
            # from here on it may use them, so there is no way back until it is gone without a word
            door.settimeout(None)
            if door.recv(1) != KNOCK:
                return False
        except OSError:
            return False
        # sshd waits for the last process that holds them
        os.close(0)
        os.close(1)
        with contextlib.suppress(OSError):
            door.recv(1)
    return True


def _is_same(root: str) -> bool:
    """Say whether the daemon runs this code."""
    try:
        with open(os.path.join(root, "locks", "daemon.runtime"), encoding="ascii") as file:
            return file.read().strip() == runtime_id() != ""
    except OSError:
        return False


def admitted(door: socket.socket) -> tuple[int, int] | None:
    """Answer a knock and return the descriptors that come; None if it is a client itself that speaks.

    Raises:
        OSError: whoever knocked is gone, or sends something else.
    """
    door.settimeout(10 * SECONDS)
    if door.recv(1, socket.MSG_PEEK) != KNOCK:
        return None
    door.recv(1)
    door.sendall(KNOCK)
    _, fds, _, _ = socket.recv_fds(door, 1, 2)
    try:
        if len(fds) != 2:
            raise ConnectionResetError
        for fd in fds:
            os.set_inheritable(fd, False)  # noqa: FBT003  # takes no name
        door.sendall(KNOCK)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds[0], fds[1]
