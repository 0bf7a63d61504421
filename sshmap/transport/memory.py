"""To an agent in this process: a thread behind a socket pair, so that tests need no process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from sshmap.transport.channel import Channel, FdChannel


def connect(serve: Callable[[Channel], None]) -> FdChannel:
    """Open a channel whose other end is handed to a function in a thread of its own."""
    ours, theirs = socket.socketpair()
    there = theirs.detach()
    far = FdChannel(there, there, silence=None)
    thread = threading.Thread(target=serve, args=(far,), daemon=True)
    thread.start()
    fd = ours.detach()
    return FdChannel(fd, fd, on_close=lambda: thread.join(5))
