"""The space on a host's disk that commands may use: what is free, less a reserve."""

from __future__ import annotations

import os

from sshmap.errors import NoSpace
from sshmap.store.layout import Root

#: the reserve is so many bytes, or this share of the disk if that is less, unless the inventory says otherwise
RESERVE, RESERVE_SHARE = 2 << 30, 0.05
_HINT = "delete keys that are not needed with sshmap rm -r, or old runs with sshmap gc; then the same command goes on"


def waiting_for_space(slot: int) -> str:
    """Return the name that a worker holds while it waits for space for the ledger itself; see `locks.hold`."""
    return f"worker {slot} waits for space"


class Space:
    """The disk that a root lies on.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root

    def look(self) -> tuple[int, int]:
        """Return the bytes that are free, and those of the reserve, as a client has told it last."""
        disk = os.statvfs(self._root.path)
        usual = min(RESERVE, int(RESERVE_SHARE * disk.f_blocks * disk.f_frsize))
        return disk.f_bavail * disk.f_frsize, self._root.read_cluster().reserve or usual

    def is_short(self) -> bool:
        """Say whether less is free than the reserve."""
        free, reserve = self.look()
        return free < reserve

    def error(self) -> NoSpace:
        """Return the error that says so."""
        free, reserve = self.look()
        return NoSpace(f"{free >> 20} MiB are free on its disk, {reserve >> 20} MiB are the reserve", hint=_HINT)
