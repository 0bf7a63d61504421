"""The warm agent: accepts sessions on a Unix socket in the root, and serves each in a thread."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from sshmap.agent.host.handoff import admitted
from sshmap.agent.session.server import serve
from sshmap.store.layout import Root
from sshmap.transport.channel import FdChannel
from sshmap.transport.sockets import PATH_LIMIT, short_path
from sshmap.transport.unix import UnixChannel

#: seconds until the next try to accept a session
_PAUSE = 0.1


class Listener:
    """Accepts sessions on ``agent.sock``.

    Args:
        root: the host's root, which only its owner can enter.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        folder = os.open(root.path, os.O_RDONLY | os.O_DIRECTORY)
        fresh = f"{root.socket}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(short_path(fresh, folder if len(os.fsencode(fresh)) > PATH_LIMIT else -1))
        os.close(folder)
        os.chmod(fresh, 0o600)
        self._socket.listen(64)
        os.replace(fresh, root.socket)

    def run_forever(self) -> None:
        """Accept until the process ends."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                # for example no descriptor is free; a client that gets no answer starts an agent of its own
                time.sleep(_PAUSE)
                continue
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: socket.socket) -> None:
        """Serve a session: on the connection itself, or, if ssh began it, on the two descriptors that come through the connection."""
        try:
            passed = admitted(connection)
        except OSError:
            connection.close()
            return
        if passed:
            serve(self._root, FdChannel(*passed, on_close=connection.close, silence=None), warm=True)
        else:
            serve(self._root, UnixChannel(connection, silence=None), warm=True)
