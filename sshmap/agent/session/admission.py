"""Which clients are admitted to a root: those whose inventory places keys where the root's keys lie.

A root without keys adopts the host name and the ring that the client's inventory gives it; a root with keys refuses
a client that gives it others. A peer never makes or changes a root.
"""

from __future__ import annotations

import contextlib

from sshmap.agent.host import lifecycle
from sshmap.agent.host.wake import wake
from sshmap.errors import HostNotReady, RingChanged, SshmapError
from sshmap.placement import Ring, ring_difference
from sshmap.protocol import messages as m
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.ledger import needs_migration


def open_store(root: Root, hello: m.Hello, *, peer: bool) -> Store:
    """Open the root for a client: make it if there is none, adapt it to the client's inventory if it holds no keys.

    Raises:
        Refused: the root is of another version, or the client would look for keys elsewhere than they lie.
    """
    try:
        cluster: ClusterFile | None = root.read_cluster()
    except HostNotReady:
        if peer:
            raise
        cluster = None
        root.create()
    if not peer:
        root.make_folders()
    if needs_migration(root):
        # a daemon that uses this ledger runs older code, which does not know the tables after the migration
        lifecycle.stop(root)
    locks.share_maintenance(root)
    locks.sweep_scratch(root)
    store = Store(root)
    try:
        _admit(store, cluster, hello, peer=peer)
    except BaseException:
        store.close()
        raise
    return store


def _admit(store: Store, cluster: ClusterFile | None, hello: m.Hello, *, peer: bool) -> None:
    """Refuse a client that would look for this root's keys on other hosts; write down the cluster as an admitted one describes it."""
    ring = Ring(hello.ring)
    other = _other_ring(cluster, hello, ring) if cluster else None
    if other and (peer or store.keys.total()[0]):
        raise other
    if not peer:
        _update_cluster(store, cluster, hello, ring)
        # used up when the disk was full, it is made again once there is room
        store.root.load_ballast()


def admit_end(root: Root, hello: m.Hello) -> None:
    """Let a client stop the daemon and delete the root, whatever is left of it, unless it means another cluster.

    Raises:
        RingChanged: keys lie there by another inventory, or may lie there, as the ledger cannot be read.
    """
    try:
        cluster = root.read_cluster()
    except SshmapError:
        return
    other = _other_ring(cluster, hello, Ring(hello.ring))
    if other and _may_hold_keys(root):
        raise other


def _may_hold_keys(root: Root) -> bool:
    try:
        with contextlib.closing(Store(root)) as store:
            return store.keys.total()[0] > 0
    except (SshmapError, OSError):
        return True


def _other_ring(cluster: ClusterFile, hello: m.Hello, ring: Ring) -> RingChanged | None:
    """Return the error for an inventory by which this root's keys would lie on other hosts; None if it is the same one."""
    if cluster.host != hello.host:
        return RingChanged(
            f"this root is host {cluster.host!r}, the inventory calls it {hello.host!r}",
            hint="one root under two names, or a host renamed while it holds data: put the name back",
        )
    if cluster.fingerprint != ring.fingerprint:
        return RingChanged(
            f"the inventory places keys differently than this host's data lies: {ring_difference(cluster.ring, hello.ring)}",
            hint="put the inventory back as it was; before it changes, its keys have to go: sshmap rm -r",
        )
    return None


def _update_cluster(store: Store, cluster: ClusterFile | None, hello: m.Hello, ring: Ring) -> None:
    root = store.root
    wanted = ClusterFile(
        # the ledger's id, so that a lost cluster.json is written with the same id, by which our lines in authorized_keys are known
        root_id=cluster.root_id if cluster else store.ledger.id, host=hello.host, ring=tuple(ring.members), fingerprint=ring.fingerprint,
        peers=hello.peers or (cluster.peers if cluster else ()), workers=hello.workers, idle_stop=hello.idle_stop,
        reserve=hello.reserve, scrub=hello.scrub, shuffle=hello.shuffle,
    )  # fmt: skip
    if wanted != cluster:
        root.write_cluster(wanted)
        wake(root, "courier")
