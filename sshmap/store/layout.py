"""The files below a root, and what the root remembers about its cluster.

Knows names and modes only; what lies in the ledger and in `data/` is not its business.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec

from sshmap.errors import HostNotReady, NoSpace, Refused, SshmapError
from sshmap.model import Peer
from sshmap.store.ownership import flaw

LAYOUT = 2
#: bytes: what the journal of the ledger grows to before it is emptied (1000 pages, 4 MB), and as much for the ledger
BALLAST = 8 << 20
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "glusterfs", "fuse.glusterfs"}


class ClusterFile(msgspec.Struct, frozen=True, kw_only=True):
    """cluster.json: the name of this host, and the cluster as a client has last described it."""

    layout: int = LAYOUT
    #: random, made with the root; tells two roots apart
    root_id: str
    host: str
    ring: tuple[tuple[str, float], ...]
    fingerprint: str
    peers: tuple[Peer, ...] = ()
    workers: int = 0
    idle_stop: float = 0.0
    #: bytes that have to stay free on the disk; 0 for the usual reserve
    reserve: int = 0
    #: seconds in which the daemon reads each key once; 0 if it does not
    scrub: float = 0.0
    shuffle: str = "auto"


class Root:
    """Paths below one root directory.

    Args:
        path: the root; ``~`` is expanded here, on the host.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        self.data = self.path / "data"
        self.tmp = self.path / "tmp"
        self.outbox = self.tmp / "outbox"
        self.shipped = self.path / "shipped"
        self.locks = self.path / "locks"
        self.wake = self.path / "wake"
        self.logs = self.path / "logs"
        #: working directories of failed tasks, for people to look at
        self.failed = self.path / "failed"
        #: damaged files that were put aside; made when it is needed
        self.quarantine = self.path / "quarantine"
        self.ssh = self.path / "ssh"
        self.runtime = self.path / "runtime"
        self.ledger = self.path / "ledger.db"
        self.cluster_file = self.path / "cluster.json"
        self.socket = self.path / "agent.sock"
        #: takes some space, which is given up so that keys can be deleted on a full disk
        self.ballast = self.path / "ballast"

    def create(self) -> None:
        """Make the directories.

        Raises:
            Refused: the root lies on a network file system, where SQLite's locks do not hold, or others could alter it.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_root(self.path)  # another process may have made it first
        if kind := network_mount(self.path):
            raise Refused(
                f"the root {self.path} is on a network file system ({kind})",
                hint="give the host a root on a local disk",
            )
        self.path.chmod(0o700)
        self.make_folders()
        self.load_ballast()

    def make_folders(self) -> None:
        """Make the directories that are missing; a user may have removed some."""
        for folder in self.folders:
            folder.mkdir(exist_ok=True, mode=0o700)

    @property
    def folders(self) -> tuple[Path, ...]:
        """All directories that a root has from the beginning."""
        return (self.data, self.tmp, self.outbox, self.shipped, self.locks, self.wake, self.logs, self.ssh)

    def load_ballast(self) -> None:
        """Make the ballast file, unless it is there or the disk lacks the space for it and as much again."""
        try:
            if self.ballast.exists():
                return
            disk = os.statvfs(self.path)
            if disk.f_bavail * disk.f_frsize < 2 * BALLAST:
                return
            with self.ballast.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST)
        except OSError:
            self.ballast.unlink(missing_ok=True)

    def read_cluster(self) -> ClusterFile:
        """Read cluster.json.

        Raises:
            HostNotReady: there is none.
            Refused: it was written by a later version, or by one that is too old.
        """
        try:
            cluster = msgspec.json.decode(self.cluster_file.read_bytes(), type=ClusterFile)
        except FileNotFoundError as exc:
            raise HostNotReady(f"no sshmap root at {self.path}", hint="sshmap up") from exc
        except (OSError, msgspec.DecodeError) as exc:
            raise HostNotReady(f"{self.cluster_file} cannot be read: {exc}", hint="sshmap up") from exc
        if cluster.layout > LAYOUT:
            raise Refused(
                f"{self.path} has layout {cluster.layout}, this sshmap knows {LAYOUT}", hint="use the newer sshmap"
            )
        if cluster.layout < LAYOUT:
            raise Refused(
                f"{self.path} was made by an earlier sshmap (layout {cluster.layout}), which this one does not read",
                hint="remove it with that sshmap, sshmap down --purge, or give the host another root",
            )
        return cluster

    def write_cluster(self, cluster: ClusterFile) -> None:
        """Write cluster.json, whole or not at all."""
        fresh = self.path / f".cluster.{os.getpid()}.{os.urandom(4).hex()}"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(cluster)))
        fresh.replace(self.cluster_file)


def check_root(path: str | Path) -> None:
    """Refuse a root that others could alter.

    Raises:
        Refused: it, or a directory above it, is somebody else's, can be written to by others, or is a link.
    """
    if reason := flaw(str(path)):
        raise unsafe(reason)


def unsafe(reason: str) -> Refused:
    """Say that a root is not used, and what to do about it."""
    return Refused(
        f"this root is not safe to use: {reason}",
        hint="give the host a root that nobody else can change, or see what is there and take it away: ls -ld",
    )


def host_error(exc: OSError, path: Path) -> SshmapError:
    """Say what a failed system call below a root means, where no key is concerned."""
    what = f"{exc.filename or path}: {exc.strerror}"
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, hint="free some space, for example with sshmap rm -r")
    return HostNotReady(what, hint="see whether the root is there and writable: sshmap health")


def remove_tree(path: Path) -> None:
    """Delete a directory and all below it without following links, whatever modes a command left there."""
    try:
        os.chmod(path, 0o700)
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        else:
            Path(entry.path).unlink(missing_ok=True)
    try:
        path.rmdir()
    except FileNotFoundError:
        return


def network_mount(path: Path) -> str:
    """Return the type of the network file system the path is on, or an empty string."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in mounts:
        _, point, name, *_ = line.split(" ")
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind if kind in _NETWORK else ""
