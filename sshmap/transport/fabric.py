"""To a host through fabric's Connection: the default from the laptop. Alone knows fabric and paramiko.

What fabric leaves open is set here: host keys are checked on every hop and unknown ones
refused, AES-GCM comes first (2.5 times the speed), TCP_NODELAY and keepalive are on,
every phase has a limit. `ssh-keygen -F` finds the entries of known_hosts, hashed ones and
patterns too; where they hold a form that paramiko cannot judge, the host is refused and
`transport = "openssh"` named.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import fabric
import paramiko

from sshmap.errors import (
    ConnectionDropped,
    ConversationBroken,
    HostKeyRefused,
    HostLost,
    HostNotReady,
    ProtocolError,
    Refused,
    SshmapError,
)
from sshmap.protocol.handshake import quote
from sshmap.transport.channel import SILENCE
from sshmap.transport.launching import UNSAFE, refused
from sshmap.transport.target import Resolved, Target, ended_early, entries, forget_key, hops, resolve

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr")
KEEPALIVE = 15
CONNECT_SECONDS, BANNER_SECONDS, AUTH_SECONDS = 10, 15, 15
#: seconds that a logged-in server may take to start the command
SESSION_SECONDS = 10
WINDOW = 4 << 20
# our errors say what paramiko logs; its tracebacks are not for users
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False
#: what paramiko raises in the middle of a call when the connection breaks
_BROKEN = (OSError, EOFError, paramiko.SSHException)
_MARKED = "known_hosts holds a form for this host that only OpenSSH can judge"


class FastTransport(paramiko.Transport):
    """A transport that prefers AES-GCM and sends small packets at once."""

    _preferred_ciphers = CIPHERS

    def __init__(self, sock: Any, **options: Any) -> None:  # noqa: ANN401  # paramiko's own signature
        super().__init__(sock, default_window_size=WINDOW, **options)
        if isinstance(self.sock, socket.socket):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # else paramiko would wait for ever to write to a socket that takes nothing any more; macOS has no such option
            if limit := getattr(socket, "TCP_USER_TIMEOUT", 0):
                self.sock.setsockopt(socket.IPPROTO_TCP, limit, KEEPALIVE * 1000)


def connect(target: Target, command: list[str]) -> FabricChannel:
    """Open a channel to a command on a host.

    Raises:
        HostKeyRefused: a host key on the way is unknown or has changed; nothing was sent.
        ConnectionDropped: the server closes the connection before login.
        HostLost: the host cannot be reached or refuses the login; the phase is named.
    """
    connection = _open(target)
    began = time.monotonic()
    try:
        channel = _start(connection, command)
    except _BROKEN as exc:
        transport = connection.client.get_transport()
        alive = transport is not None and transport.is_active()
        connection.close()
        if time.monotonic() - began >= SESSION_SECONDS:
            raise HostLost(f"session: no answer from {connection.host} within {SESSION_SECONDS} s") from exc
        if not alive:
            raise ConversationBroken(f"the connection broke before the session began: {exc}") from exc
        raise HostLost(f"the server refuses a session: {exc}") from exc
    return FabricChannel(connection, channel)


def _start(connection: fabric.Connection, command: list[str]) -> paramiko.Channel:
    """Start a command in a session; close the connection if that takes too long, as paramiko would wait for ever."""
    transport = connection.client.get_transport()
    assert transport is not None
    limit = threading.Timer(SESSION_SECONDS, transport.close)
    limit.daemon = True
    limit.start()
    try:
        transport.set_keepalive(KEEPALIVE)
        channel: paramiko.Channel = transport.open_session()
        channel.exec_command("exec " + shlex.join(command))
    finally:
        limit.cancel()
    return channel


def _open(target: Target) -> fabric.Connection:
    """Open a connection through all hops, each with its own host key check."""
    route = [resolve(each) for each in (*hops(target), target)]
    gateway: fabric.Connection | str | None = route[0].proxy_command or None
    for resolved in route:
        gateway = connection = _connection(resolved, gateway)
    with _mapped(resolved):
        connection.open()
    return connection


def _connection(resolved: Resolved, gateway: fabric.Connection | str | None) -> fabric.Connection:
    options: dict[str, Any] = {
        "banner_timeout": BANNER_SECONDS, "auth_timeout": AUTH_SECONDS, "transport_factory": FastTransport,
        "look_for_keys": False, "allow_agent": not resolved.identities_only, "key_filename": list(resolved.identity_files),
    }  # fmt: skip
    config = fabric.Config(overrides={"load_ssh_configs": False})
    connection = fabric.Connection(
        resolved.hostname, user=resolved.user, port=resolved.port, gateway=gateway, config=config,
        connect_timeout=CONNECT_SECONDS, connect_kwargs=options,
    )  # fmt: skip
    connection.client.set_missing_host_key_policy(_Unknown())
    _load_known(connection.client.get_host_keys(), resolved)
    return connection


class _Unknown(paramiko.MissingHostKeyPolicy):
    """Refuses unknown host keys and shows their fingerprint."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Refuse."""
        del client
        raise HostKeyRefused(
            f"the host key of {hostname} is unknown: {key.get_name()} {fingerprint(key)}", hint="sshmap trust"
        )


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as ssh prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _load_known(known: paramiko.HostKeys, resolved: Resolved) -> None:
    """Give paramiko the keys that known_hosts has for a host, under the name by which paramiko looks them up."""
    asked = resolved.hostname if resolved.port == 22 else f"[{resolved.hostname}]:{resolved.port}"
    for line in entries(resolved):
        if line.startswith("@"):
            raise HostKeyRefused(
                f"{_MARKED}: {line.split()[0]}", hint='set transport = "openssh" for it in the inventory'
            )
        entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
        if entry is not None and entry.key is not None:
            known.add(asked, entry.key.get_name(), entry.key)


@contextlib.contextmanager
def _mapped(resolved: Resolved) -> Iterator[None]:
    """Turn paramiko's and the system's errors into sshmap's, naming the phase."""
    place = f"{resolved.hostname} port {resolved.port}"
    began = time.monotonic()
    try:
        yield
    except SshmapError:
        raise
    except paramiko.BadHostKeyException as exc:
        raise HostKeyRefused(
            f"the host key of {exc.hostname} has changed: known {fingerprint(exc.expected_key)}, now {fingerprint(exc.key)}",
            hint=f"find out why before you go on; if it is right: {forget_key(resolved)}, then sshmap trust",
        ) from exc
    except paramiko.AuthenticationException as exc:
        raise _login_error(exc, place, resolved.user) from exc
    except TimeoutError as exc:
        raise HostLost(f"connect: no answer from {place} within {CONNECT_SECONDS} s") from exc
    except (paramiko.SSHException, EOFError, ConnectionResetError) as exc:
        raise _banner_error(exc, place, time.monotonic() - began) from exc
    except OSError as exc:
        raise HostLost(f"connect: {place}: {exc.strerror or exc}") from exc


def _login_error(exc: paramiko.AuthenticationException, place: str, user: str) -> HostLost:
    if isinstance(exc, paramiko.PasswordRequiredException):
        return HostLost("login: the key needs a passphrase", hint="add it to the agent: ssh-add")
    if "timeout" in str(exc):
        return HostLost(f"login: no answer from {place} within {AUTH_SECONDS} s")
    return HostLost(
        f"login at {place} as {user!r} refused: {exc}", hint="sshmap asks for no password; look with: sshmap doctor"
    )


def _banner_error(exc: Exception, place: str, waited: float) -> HostLost:
    if waited > CONNECT_SECONDS - 1:
        return HostLost(f"banner: {place} accepts connections but does not speak ssh")
    why = str(exc) or type(exc).__name__
    return ConnectionDropped(f"the server drops the connection before login: {why}", hint="its MaxStartups may be low")


class FabricChannel:
    """A session channel of one connection, which ends with it.

    Args:
        connection: kept open by the reference: once garbage-collected, it would close the channel.
        channel: the session.
    """

    def __init__(self, connection: fabric.Connection, channel: paramiko.Channel) -> None:
        self._connection, self._channel = connection, channel
        self._received = False
        self._complaint = b""
        channel.settimeout(SILENCE)
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send all of them, one after the other."""
        try:
            self._channel.sendall(b"".join(pieces))
        except TimeoutError as exc:
            raise ConversationBroken(f"no sign of life for {SILENCE:.0f} seconds", hint="sshmap health") from exc
        except _BROKEN as exc:
            raise _broken(exc) if self._received else self._explained() from exc

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send nothing: what goes out has to be encrypted here."""
        del fd, offset, count
        return 0

    def recv_into(self, buffer: memoryview) -> int:
        """Receive some bytes; an end before the first byte raises the error that says why the agent did not start."""
        try:
            piece = self._channel.recv(len(buffer))
        except TimeoutError as exc:
            raise ConversationBroken(f"no sign of life for {SILENCE:.0f} seconds", hint="sshmap health") from exc
        except _BROKEN as exc:
            raise _broken(exc) from exc
        if not piece and not self._received:
            raise self._explained()
        self._received = True
        buffer[: len(piece)] = piece
        return len(piece)

    def hand(self, frame: bytes, fd: int) -> bool:
        """Send nothing: the other side is on another machine."""
        del frame, fd
        return False

    def take(self) -> int:
        """Refuse."""
        raise ProtocolError("a file was announced that cannot come this way")

    def fileno(self) -> int:
        """Return a descriptor that gets readable with the channel."""
        return self._channel.fileno()

    def readable(self, seconds: float) -> bool:
        """Wait so long for bytes; say whether they came."""
        deadline = time.monotonic() + seconds
        while not (self._channel.recv_ready() or self._channel.closed):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _explained(self) -> HostLost | Refused:
        self._drain.join(2)
        self._channel.status_event.wait(2)
        with contextlib.suppress(*_BROKEN):
            # a login shell that ends at once may have printed something before the first send failed
            self._complaint = self._channel.recv(4096) + self._complaint
        code = self._channel.exit_status
        if code == UNSAFE:
            return refused(self._complaint)
        if code in (126, 127):
            return HostNotReady(f"the agent cannot be started{quote(self._complaint)}", hint="sshmap up")
        if not self._complaint and code >= 0:
            return ended_early(code)
        kind = HostLost if code >= 0 else ConversationBroken
        return kind(f"the host ended the session before the agent answered{quote(self._complaint)}", hint="sshmap up")

    def _drain_stderr(self) -> None:
        with contextlib.suppress(*_BROKEN):
            while piece := self._channel.recv_stderr(32768):
                self._complaint = (self._complaint + piece)[-4096:]

    def abort(self) -> None:
        """Close the channel, whereupon paramiko ends calls that wait in other threads."""
        with contextlib.suppress(*_BROKEN):
            self._channel.close()

    def close(self) -> None:
        """Close the channel and its connection."""
        with contextlib.suppress(*_BROKEN):
            self._channel.close()
        self._connection.close()


def _broken(exc: Exception) -> ConversationBroken:
    return ConversationBroken(f"the connection broke: {str(exc) or type(exc).__name__}")
