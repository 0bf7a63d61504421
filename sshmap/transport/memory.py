"""To an agent in this process: a thread behind a socket pair, so that tests need no process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from sshmap.transport.channel import Channel
from sshmap.transport.unix import UnixChannel


def connect(serve: Callable[[Channel], None]) -> UnixChannel:
    """Open a channel whose other end is handed to a function in a thread of its own."""
    ours, theirs = socket.socketpair()
    far = UnixChannel(theirs, silence=None)
    thread = threading.Thread(target=serve, args=(far,), daemon=True)
    thread.start()
    return UnixChannel(ours, on_close=lambda: thread.join(5))
