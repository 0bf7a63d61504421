"""To a host through the `ssh` program as a child process.

Used from host to host always, and from the laptop where the inventory says so: what
OpenSSH can judge (certificates, hardware keys, every form of known_hosts), it judges here.
The options leave nothing to a prompt, to forwarding or to a shared connection, on every hop.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import time

from sshmap.errors import ConnectionDropped, ConversationBroken, HostKeyRefused, HostLost, HostNotReady, Refused
from sshmap.protocol.handshake import quote
from sshmap.transport.channel import FdChannel
from sshmap.transport.launching import UNSAFE, refused
from sshmap.transport.target import Target, ended_early, hops

CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes128-ctr,chacha20-poly1305@openssh.com"
CONNECT_SECONDS = 10
#: seconds that an `ssh` which has closed its output may take to end, so that its exit code and stderr say why
_LAST_WORDS = 2.0
#: the exit code of `ssh` itself; others are those of the host
_OF_SSH = 255
#: seconds that an `ssh` may take to end by itself, and as many after TERM, before it is killed
_PATIENCE = 0.5
_BUFFER = 1 << 20
#: what `ssh` says when MaxStartups drops it
_DROPPED = ("kex_exchange_identification", "Connection reset by", "Connection closed by")
#: what `ssh` says when a connection breaks after the login
_BROKEN = ("client_loop:", "packet_write_", "ssh_dispatch_run_fatal:", "closed by remote host", "Timeout, server")
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "EscapeChar": "none",
    "Compression": "no",
    "ControlMaster": "no",
    "ControlPath": "none",
    "LogLevel": "ERROR",
    "Ciphers": CIPHERS,
}


def ssh_argv(target: Target, command: list[str]) -> list[str]:
    """Return the command line that runs a command on a host.

    Raises:
        HostLost: ssh_config is wrong.
    """
    return [*_login(target, _through(hops(target))), "--", target.address, "exec " + shlex.join(command)]


def _login(target: Target, proxy: str) -> list[str]:
    """Return the beginning of a command line that logs in; a proxy command is used in place of the one of ssh_config."""
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-T", *options, *(["-o", f"ProxyCommand={proxy}"] if proxy else []), *target.options()]


def _through(route: list[Target]) -> str:
    """Return the proxy command that connects through some hosts; empty if there are none.

    Rejected: ``-J``, for which `ssh` starts another `ssh` that has none of our options, so that an ssh_config
    with ``StrictHostKeyChecking no`` would accept any gateway.
    """
    proxy = ""
    for hop in route:
        login, place = (text.replace("%", "%%") for text in (shlex.join(_login(hop, proxy)), shlex.quote(hop.address)))
        # the ssh that runs this command replaces %h and %p by the host and port that it connects to
        proxy = f"{login} -W '[%h]:%p' -- {place}"
    return proxy


def connect(target: Target, command: list[str]) -> OpensshChannel:
    """Open a channel to a command on a host.

    What goes wrong is raised when the channel is used: where it ends before the first byte, what `ssh` wrote to
    stderr says why.

    Raises:
        HostLost: ssh_config is wrong.
    """
    argv = ssh_argv(target, command)
    ours, theirs = socket.socketpair()
    # a pipe holds 64 KiB: a host that writes more to stderr waits, and counts as lost if it writes nothing to stdout
    complaints, stderr = os.pipe()
    os.set_blocking(complaints, False)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    with theirs, open(stderr, "wb", buffering=0) as written:
        child = subprocess.Popen(
            argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=written, start_new_session=True,
        )  # fmt: skip
    return OpensshChannel(ours.detach(), child, complaints)


class OpensshChannel(FdChannel):
    """A channel over an `ssh` child.

    Args:
        fd: our end of its stdin and stdout.
        child: the process.
        complaints: descriptor that its stderr is read from, without waiting.
    """

    def __init__(self, fd: int, child: subprocess.Popen[bytes], complaints: int) -> None:
        super().__init__(fd, fd, on_close=self._end)
        self._child, self._complaints = child, complaints
        self._received = False

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes; an end before the first byte raises the error that `ssh` reports."""
        count = super().recv_into(buffer)
        if not count and not self._received:
            raise self._explained()
        self._received = True
        return count

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send all of them, one after the other."""
        try:
            super().send(*pieces)
        except HostLost as exc:
            raise exc if self._received else self._explained() from exc

    def _explained(self) -> HostLost | Refused:
        deadline = time.monotonic() + _LAST_WORDS
        while self._child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        complaint = said = b""
        with contextlib.suppress(OSError):
            complaint = os.read(self._complaints, 65536)
        with contextlib.suppress(OSError):
            # a login shell that ends at once may have printed something before the first send failed
            said = os.read(self.fileno(), 4096)
        if said:
            return HostLost(
                f"the host ended the session before the agent answered{quote(said + complaint)}", hint="sshmap up"
            )
        return explain(complaint, self._child.poll())

    def _end(self) -> None:
        for end in (self._child.terminate, self._child.kill):
            try:
                self._child.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                end()
        self._child.wait()
        os.close(self._complaints)


def explain(complaint: bytes, code: int | None) -> HostLost | Refused:
    """Return the error that a failed `ssh` means, by its exit code and by what it wrote to stderr."""
    text = complaint.decode("utf-8", "replace").strip()
    if not text and code is not None and 0 <= code < _OF_SSH:
        return ended_early(code)
    if code == UNSAFE:
        return refused(complaint)
    if not text:
        return ConversationBroken(f"the connection broke: ssh ended with {code}")
    last = text.splitlines()[-1].strip()
    if error := _explain_login(text, last):
        return error
    if code in (126, 127):
        return HostNotReady(f"the agent cannot be started{quote(complaint)}", hint="sshmap up")
    return HostLost(last, hint="look with: sshmap doctor")


def _explain_login(text: str, last: str) -> HostLost | None:
    """Return the error that `ssh` itself reports on the way to a login; None if it reports none."""
    if "IDENTIFICATION HAS CHANGED" in text or "Host key verification failed" in text:
        return HostKeyRefused(
            f"the host key is unknown or has changed: {' '.join(text.replace('@', '').split())[-1500:]}",
            hint="sshmap trust",
        )
    if any(sign in text for sign in _DROPPED):
        return ConnectionDropped(
            f"the server drops the connection before login: {last}", hint="its MaxStartups may be low"
        )
    if any(sign in text for sign in _BROKEN):
        return ConversationBroken(f"the connection broke: {last}")
    if "Permission denied" in text:
        return HostLost(
            f"login refused: {last}",
            hint="a key that needs a passphrase has to be in the agent; look with: sshmap doctor",
        )
    return None
