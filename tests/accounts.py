"""Real accounts in a world of their own: passwd, homes, loopback and processes are not the machine's.

Four hosts and a laptop, each an account with a home and a login shell; one sshd, on port 22, lets the laptop's key in to
each of the four. All of it ends with the process that began it. Needs root.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.sshd import make_key, sshd_program

LAPTOP, HOSTS = "ana", ("node1", "node2", "node3", "node4")
_FIRST_ID = 3001
#: words before a command line that give it namespaces of its own, whose processes all end with it
_APART = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
_SSHD = """
Port 22
ListenAddress 127.0.0.1
HostKey {top}/hostkey
PidFile none
UsePAM no
UseDNS no
PasswordAuthentication no
"""
_SSH = """
Host {name}
    HostName 127.0.0.1
    User {name}
"""


class Accounts:
    """The files of the world, below one directory; `run` makes a world of them for one script.

    Args:
        top: an empty directory.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        top.chmod(0o755)
        make_key(top / "hostkey")
        (top / "sshd_config").write_text(_SSHD.format(top=top), encoding="ascii")
        names = (LAPTOP, *HOSTS)
        numbers = {name: _FIRST_ID + number for number, name in enumerate(names)}
        users = [f"{name}:x:{number}:{number}::/home/{name}:/bin/bash\n" for name, number in numbers.items()]
        self._copy("passwd", users)
        self._copy("group", [f"{name}:x:{number}:\n" for name, number in numbers.items()])
        # no password, but not locked
        self._copy("shadow", [f"{name}:*:20000:0:99999:7:::\n" for name in names])
        for name in names:
            self._make_home(name)
        for name, number in numbers.items():
            subprocess.run(["chown", "-R", f"{number}:{number}", str(self.home(name))], check=True)

    def home(self, name: str) -> Path:
        """Return where an account's home lies outside the world."""
        return self._top / "home" / name

    def _copy(self, name: str, more: list[str]) -> None:
        there = Path("/etc", name).read_text(encoding="utf-8")
        (self._top / name).write_text(there + "".join(more), encoding="utf-8")

    def _make_home(self, name: str) -> None:
        ssh = self.home(name) / ".ssh"
        ssh.mkdir(mode=0o700, parents=True)
        if name == LAPTOP:
            make_key(ssh / "id_ed25519")
            (ssh / "config").write_text("".join(_SSH.format(name=host) for host in HOSTS), encoding="ascii")
        else:
            public = self.home(LAPTOP) / ".ssh" / "id_ed25519.pub"
            (ssh / "authorized_keys").write_bytes(public.read_bytes())
        if name == HOSTS[1]:
            # as people have it whose data lies elsewhere; bash reads this for every command that sshd starts
            (self.home(name) / ".bashrc").write_text("cd /srv\n", encoding="ascii")

    def run(self, script: str, *, limit: float, **variables: str) -> subprocess.CompletedProcess[str]:
        """Have the laptop's account run a script in its login shell.

        Args:
            script: for bash.
            limit: seconds.
            variables: further environment variables.
        """
        path = self._top / "script"
        path.write_text(script, encoding="utf-8")
        environment = {"HOME": f"/home/{LAPTOP}", "USER": LAPTOP, "LANG": "C.UTF-8", "TERM": "dumb", **variables}
        person = [
            "setpriv", f"--reuid={LAPTOP}", f"--regid={LAPTOP}", "--clear-groups", "env", "-i", "-C", f"/home/{LAPTOP}",
            "PATH=/usr/local/bin:/usr/bin:/bin", *(f"{name}={value}" for name, value in environment.items()),
            "bash", "--login", str(path),
        ]  # fmt: skip
        world = self._top / "world"
        world.write_text("\n".join([*self._furnishing(), shlex.join(person)]) + "\n", encoding="utf-8")
        return subprocess.run(
            [*_APART, "bash", "-e", str(world)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit,
            check=False,
        )  # fmt: skip

    def _furnishing(self) -> list[str]:
        """Write out what is done, as root, before anybody logs in."""
        python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
        return [
            "ip link set lo up",
            *_opened([Path(sys.base_prefix), Path(sysconfig.get_path("purelib")), self._top]),
            *(f"mount --bind {self._top / name} /etc/{name}" for name in ("passwd", "group", "shadow")),
            f"mount --rbind {self._top / 'home'} /home",
            # the Python that the packages were built for, under the usual name
            "mount -t tmpfs -o mode=755 tmpfs /usr/local/bin",
            f"printf '#!/bin/sh\\nexec %s \"$@\"\\n' {python} >/usr/local/bin/python3 && chmod 755 /usr/local/bin/python3",
            "mkdir -p /run/sshd",
            f"{sshd_program()} -f {self._top / 'sshd_config'} -E {self._top / 'log'}",
        ]


def _opened(needed: list[Path]) -> list[str]:
    """Mount directories anew that lie below one that only root enters, with an empty one in its place."""
    lines = ["mount -t tmpfs tmpfs /mnt"]
    for number, path in enumerate(needed):
        lines += [f"mkdir /mnt/{number}", f"mount --bind {path} /mnt/{number}"]
    closed = {
        next((above for above in reversed(path.parents) if not os.stat(above).st_mode & 0o001), None) for path in needed
    }
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {path}" for path in sorted(filter(None, closed))]
    for number, path in enumerate(needed):
        if closed.intersection(path.parents):
            lines += [f"mkdir -p {path}", f"mount --bind /mnt/{number} {path}"]
    return lines
