"""Waking idle processes of a daemon: one FIFO each, so that waiting costs nothing.

A wake-up is a hint: a process that is woken looks into the ledger, and it also does so now and then
without being woken.
"""

from __future__ import annotations

import contextlib
import os
import select

from sshmap.store.layout import Root


class Sleeper:
    """The reading end of a process's FIFO.

    Args:
        root: the host's root.
        name: name of the process within the daemon, for example ``worker-0``.
    """

    def __init__(self, root: Root, name: str) -> None:
        path = root.wake / name
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait to be woken, at most for so many seconds; say whether it was."""
        if not self._poll.poll(seconds * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 65536)
        return True

    def close(self) -> None:
        """Close the FIFO."""
        os.close(self._fd)


def wake(root: Root, prefix: str = "") -> None:
    """Wake the processes whose names start with a prefix; one that does not run is passed over."""
    for entry in os.scandir(root.wake):
        if entry.name.startswith(prefix):
            with contextlib.suppress(OSError):
                fd = os.open(entry.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    os.write(fd, b"!")
                finally:
                    os.close(fd)
