"""Another user of a host: reads nothing of a root, connects to nothing in it, writes and plants nothing there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.store.layout import Root
from tests.conftest import PLAIN, files_below, processes_below
from tests.sshd import SshdHosts

NOBODY = 65534
#: Becomes another user, tries everything on every path and process that it is told, and prints what it could do.
ATTACK = """
import json, os, signal, socket, stat, sys
user, paths, pids = json.load(sys.stdin)
os.setgroups([]); os.setgid(user); os.setuid(user)

def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)

def plant(path):
    os.close(os.open(os.path.join(path, "planted"), os.O_WRONLY | os.O_CREAT))

def below(path):
    return os.path.join(path, "planted")

TRIES = {
    "read": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)),
    "write": lambda path: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)),
    "list": os.listdir, "connect": connect, "plant": plant, "chmod": lambda path: os.chmod(path, 0o777),
    "chown": lambda path: os.chown(path, user, user), "rename": lambda path: os.rename(path, path + ".old"),
    "unlink": os.unlink, "rmdir": os.rmdir, "link": lambda path: os.link(path, below(sys.argv[1])),
    "symlink": lambda path: os.symlink("/etc/passwd", below(path)), "fifo": lambda path: os.mkfifo(below(path)),
    "times": lambda path: os.utime(path),
}
PROCESS = {
    "signal": lambda pid: os.kill(pid, signal.SIGCONT), "environment": lambda pid: open(f"/proc/{pid}/environ").read(1),
    "descriptors": lambda pid: os.listdir(f"/proc/{pid}/fd"), "memory": lambda pid: open(f"/proc/{pid}/mem", "rb"),
    "directory": lambda pid: os.listdir(f"/proc/{pid}/cwd"),
}
done = []
for tries, things in ((TRIES, paths), (PROCESS, pids)):
    for name, attempt in tries.items():
        for thing in things:
            try:
                attempt(thing)
            except OSError:
                continue
            done.append([name, thing])
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def busy() -> Iterator[SshdHosts]:
    """Two hosts that know each other and have worked, in a place where everybody may go; their daemons run."""
    with tempfile.TemporaryDirectory(prefix="sshmap-test-") as top:
        Path(top).chmod(0o755)
        with SshdHosts(Path(top) / "ssh") as hosts:
            hosts.add(2)
            with Cluster(hosts.inventory()) as cluster:
                assert cluster.up()[1] == {}
                for number in range(4):
                    cluster.put(b"secret", f"sm://b/{number}")
                cluster.map("sm://b/", "sm://mapped/", "cat")
                cluster.fanout("sm://b/", "sm://fanned/", "touch 0 1; echo 0; echo 1")
                yield hosts


def entries(hosts: SshdHosts) -> list[Path]:
    """Return all that is in the roots, and what logs in to the accounts."""
    found = [path for host in hosts.hosts for path in (host.root, *host.root.rglob("*"))]
    keys = [host.authorized_keys for host in hosts.hosts]
    # code is the same everywhere, and there is much of it
    return [path for path in found if "site-packages" not in path.parts and path.suffix not in (".py", ".pyc")] + keys


def attacked(paths: list[Path], pids: list[int], top: Path) -> list[tuple[str, object]]:
    """Return what another user could do."""
    task = json.dumps([NOBODY, [os.fspath(path) for path in paths], pids])
    done = subprocess.run(
        [sys.executable, "-I", "-c", ATTACK, str(top)], input=task.encode(), capture_output=True, check=False, env=PLAIN,
        cwd="/", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(row) for row in json.loads(done.stdout)]


# only root can become another user
if os.geteuid() == 0:

    def test_other_user_can_do_nothing_to_a_root_its_processes_and_logins(busy: SshdHosts) -> None:
        paths, pids = entries(busy), [pid for host in busy.hosts for pid in processes_below(host.root)]
        kinds = {stat.S_IFMT(path.lstat().st_mode) for path in paths}
        assert {stat.S_IFSOCK, stat.S_IFIFO, stat.S_IFREG, stat.S_IFDIR} <= kinds
        assert pids
        with tempfile.TemporaryDirectory(prefix="sshmap-test-") as theirs:
            os.chown(theirs, NOBODY, NOBODY)
            assert attacked(paths, pids, Path(theirs)) == []
            # where it may, it does
            (busy.top / "open").mkdir()
            (busy.top / "open").chmod(0o777)
            done = {name for name, _ in attacked([busy.top / "open"], [], Path(theirs))}
            assert {"read", "list", "plant"} <= done


def test_modes_leave_others_nothing(busy: SshdHosts) -> None:
    for host in busy.hosts:
        root = Root(host.root)
        folders = [
            root.path,
            root.data,
            root.tmp,
            root.outbox,
            root.locks,
            root.wake,
            root.logs,
            root.ssh,
            root.runtime,
        ]
        secrets = [root.socket, root.ssh / "key", root.path / "agent", host.authorized_keys, *root.wake.iterdir()]
        for folder in folders:
            assert (folder, stat.S_IMODE(folder.stat().st_mode)) == (folder, 0o700)
        for path in secrets:
            assert (path, stat.S_IMODE(path.stat().st_mode) & 0o077) == (path, 0)
        for path in files_below(root.data):
            assert (path, stat.S_IMODE(path.stat().st_mode)) == (path, 0o444)
        assert not [path for path in root.path.rglob("*") if not path.is_symlink() and path.lstat().st_mode & 0o022]
