"""Unix sockets below a root, whose path may be longer than the system allows.

Imports next to nothing, as every session that ssh begins imports it first, to reach the daemon.
"""

from __future__ import annotations

import os
import socket

PATH_LIMIT = 100
#: seconds that connecting may take
SECONDS = 1.0


def connected(path: str) -> socket.socket | None:
    """Connect to a Unix socket; None if no process listens there, or its queue of connections stays full."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        sock.settimeout(SECONDS)
        if len(os.fsencode(path)) > PATH_LIMIT:
            folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        sock.connect(short_path(path, folder))
    except OSError:
        sock.close()
        return None
    finally:
        if folder >= 0:
            os.close(folder)
    sock.settimeout(None)
    return sock


def short_path(path: str, folder: int) -> str:
    """Return a path of a socket through the open directory that it lies in; the path itself if no directory is given."""
    return path if folder < 0 else f"/proc/self/fd/{folder}/{os.path.basename(path)}"
