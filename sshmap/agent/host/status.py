"""A host's status, its jobs, and the end of its root."""

from __future__ import annotations

import os
import platform
import sys

from sshmap.agent.host import lifecycle
from sshmap.agent.host.handoff import runtime_id
from sshmap.agent.host.peers import peers_digest, public_key
from sshmap.protocol.messages import JobRow, Status
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.layout import Root, remove_tree
from sshmap.store.queue import Queue
from sshmap.version import __version__

_LOW = 1 << 30


def status(store: Store) -> Status:
    """Look at the host: keys, disk, daemon."""
    root = store.root
    cluster = root.read_cluster()
    disk = os.statvfs(root.path)
    free = disk.f_bavail * disk.f_frsize
    count, size = store.keys.total()
    active = Queue(store.ledger).active()
    pid = lifecycle.pid_of(root)
    findings = [f"only {free >> 20} MiB free below {root.path}"] if free < _LOW else []
    return Status(
        host=cluster.host, keys=count, size=size, free=free, cores=os.cpu_count() or 1, workers=cluster.workers or os.cpu_count() or 1,
        daemon=bool(pid), pid=pid, queued=active.get("queued", 0), running=active.get("running", 0) + active.get("sending", 0),
        version=__version__, runtime=runtime_id(), platform=_platform(), public_key=public_key(root), peers_digest=peers_digest(root),
        root_id=cluster.root_id, findings=tuple(findings),
    )  # fmt: skip


def _platform() -> tuple[str, str, str]:
    return f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine(), platform.libc_ver()[0]


def job_rows(store: Store) -> tuple[JobRow, ...]:
    """Return the jobs this host knows, newest first."""
    queue = Queue(store.ledger)
    rows = []
    for job, verb, indir, outdir, maker, submitted, kept, run in queue.jobs():
        made_by = store.keys.maker(maker)
        command = made_by.command if made_by else ""
        states, _ = queue.states(job, run)
        rows.append(
            JobRow(
                job=job,
                verb=verb,
                indir=indir,
                outdir=outdir,
                command=command[:500],
                submitted=submitted,
                states=states,
                kept=kept,
            )
        )
    return tuple(rows)


def purge(root: Root) -> None:
    """Delete the root with all that is in it.

    Raises:
        LockHeld: another session works there.
    """
    locks.own_maintenance(root)
    remove_tree(root.path)
