"""A host's status; deleting its root."""

from __future__ import annotations

import os
import platform
import sys

from sshmap.agent.host import lifecycle
from sshmap.agent.host.handoff import runtime_id
from sshmap.agent.host.peers import peers_digest, public_key
from sshmap.model import show, typed
from sshmap.protocol.messages import Status
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.damages import Damages
from sshmap.store.jobs import Jobs
from sshmap.store.layout import Root, remove_tree
from sshmap.version import __version__

_LOW = 1 << 30


def status(store: Store) -> Status:
    """Return the host's status: its keys, disk and daemon."""
    root = store.root
    cluster = root.read_cluster()
    disk = os.statvfs(root.path)
    free = disk.f_bavail * disk.f_frsize
    there = store.keys.total()
    active = Jobs(store.ledger).active()
    pid = lifecycle.pid_of(root)
    findings = [f"only {free >> 20} MiB free below {root.path}"] if free < _LOW else []
    findings += _damaged(Damages(store.ledger))
    return Status(
        host=cluster.host, keys=there.keys, size=there.size, free=free, cores=os.cpu_count() or 1, workers=cluster.workers or os.cpu_count() or 1,
        daemon=bool(pid), pid=pid, queued=active.get("queued", 0), running=active.get("running", 0) + active.get("sending", 0),
        version=__version__, runtime=runtime_id(), platform=_platform(), public_key=public_key(root), peers_digest=peers_digest(root),
        root_id=cluster.root_id, findings=tuple(findings),
    )  # fmt: skip


def _damaged(damages: Damages) -> list[str]:
    """Say how many keys were found damaged."""
    if not (count := damages.count()):
        return []
    first = show(damages.first())
    return [f"{count} damaged keys, first {first}: {typed('sshmap', 'verify', first)} shows what it is now"]


def _platform() -> tuple[str, str, str]:
    return f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine(), platform.libc_ver()[0]


def purge(root: Root) -> None:
    """Delete the root with all that is in it.

    Raises:
        LockHeld: another session works there.
    """
    locks.own_maintenance(root)
    remove_tree(root.path)
