"""A host that lies behind a real sshd: whatever a client has its shell run, the test answers.

The account's forced command hands the session's streams to the test, over a Unix socket. So all between the client and
the lie is real, and a lie may be any object of the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from sshmap.client.wheels import here
from sshmap.errors import HostLost
from sshmap.inventory import Host, Inventory
from sshmap.transport.channel import FdChannel
from tests.hostile import Answers, speak
from tests.sshd import Sshd, SshdHosts

#: hands its streams and the command it was to run to whoever listens, and stays until that one is done
_BRIDGE = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    socket.send_fds(sock, [os.environ.get("SSH_ORIGINAL_COMMAND", "").encode() or b"-"], [0, 1, 2])
    for fd in range(3):
        os.close(fd)
    sock.recv(1)
"""
#: what an honest host of this machine's kind says of its interpreter, and of itself
PROBED = [f"/usr/bin/python3 {sys.version_info[0]} {sys.version_info[1]} 3.40.1 {here().machine} {here().libc}", "end"]
FACTS: dict[str, object] = {
    "root": "/r", "python": "/usr/bin/python3", "version": [3, 11], "machine": here().machine, "libc": here().libc, "bash": "/bin/bash",
    "bash_version": [5, 2], "keygen": "/usr/bin/ssh-keygen", "ssh": "/usr/bin/ssh", "writable": True, "executable": True, "free": 2**40,
    "cores": 1, "clock": 1.8e9, "home": "/", "have": True,
}  # fmt: skip
INSTALLED = [json.dumps(FACTS), "{}"]


class LyingSshd:
    """One sshd whose every session is answered by the test.

    Args:
        hosts: where it is added.
    """

    def __init__(self, hosts: SshdHosts) -> None:
        self._hosts = hosts
        path, bridge = hosts.top / "liar", hosts.top / "bridge.py"
        bridge.write_text(_BRIDGE, encoding="utf-8")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(64)
        forced = f"ForceCommand exec {sys.executable} -I -S {bridge} {path}"
        self.sshd: Sshd = hosts.add(config=[forced])[0]
        #: what an agent answers, what the search for an interpreter and the installer print
        self.answers: Answers = {}
        self.probed: Iterable[str] = PROBED
        self.installed: Iterable[str] = INSTALLED
        #: pieces of 64 KiB that are said on stderr
        self.complaints = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def tell(
        self,
        answers: Answers | None = None,
        *,
        probed: Iterable[str] = PROBED,
        installed: Iterable[str] = INSTALLED,
        complaints: int = 0,
    ) -> None:
        """Say what is answered from now on; honest where nothing is said."""
        self.answers, self.probed, self.installed, self.complaints = answers or {}, probed, installed, complaints

    def host(self, transport: str) -> Host:
        """Describe it as the inventory does."""
        return self._hosts.host(self.sshd, transport)

    def write(self, transport: str) -> Path:
        """Write an inventory of it alone."""
        return self._hosts.write(Inventory(hosts=(self.host(transport),), origin="test"))

    def close(self) -> None:
        """Accept no more sessions."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            command, (stdin, stdout, stderr), _, _ = socket.recv_fds(sock, 1 << 16, 3)
            with contextlib.closing(FdChannel(stdin, stdout, silence=None)) as channel, open(stderr, "wb", 0) as said:
                if self.complaints:
                    threading.Thread(
                        target=_complain, args=(os.dup(said.fileno()), self.complaints), daemon=True
                    ).start()
                with contextlib.suppress(HostLost):
                    self._answer(command.decode(), channel)

    def _answer(self, command: str, channel: FdChannel) -> None:
        if command.endswith((" serve", " alone")):
            speak(channel, self.answers)
        elif found := re.search(r'echo "([0-9a-f]{16}) end"', command):
            _print(channel, found[1], self.probed)
        else:
            _print(channel, _installer_marker(channel), self.installed)
            _drain(channel)


def _print(channel: FdChannel, marker: str, lines: Iterable[str]) -> None:
    for line in lines:
        channel.send(f"{marker} {line}\n".encode())


def _installer_marker(channel: FdChannel) -> str:
    """Read what is sent to the installer up to its request; return the marker that answers begin with."""
    seen = bytearray()
    buffer = memoryview(bytearray(1 << 16))
    while not (found := re.search(rb'"marker": "([0-9a-f]{16})"}\n', seen)):
        count = channel.recv_into(buffer)
        if not count:
            raise HostLost("the client left")
        seen += buffer[:count]
    return found[1].decode()


def _drain(channel: FdChannel) -> None:
    buffer = memoryview(bytearray(1 << 16))
    while channel.recv_into(buffer):
        continue


def _complain(fd: int, count: int) -> None:
    with contextlib.suppress(OSError), open(fd, "wb", 0) as said:
        said.writelines(b"x" * 65536 for _ in range(count))
