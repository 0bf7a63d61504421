"""Host keys: fetching them and, once the user has said yes, adding them to known_hosts, which nothing but `trust` does."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sshmap.client.gathering import gather
from sshmap.errors import HostKeyRefused, HostLost, SshmapError
from sshmap.inventory import Host
from sshmap.transport.dial import target_of
from sshmap.transport.target import Resolved, entries, forget_key, resolve

SCAN_SECONDS = 10


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that a host shows, and whether they are known already."""

    host: str
    #: lines of known_hosts, under the name ssh looks up
    lines: tuple[str, ...]
    #: ``256 SHA256:… (ED25519)``
    fingerprints: tuple[str, ...]
    known: bool
    #: known_hosts file that `accept` adds the lines to
    file: str


def fetch_all(hosts: dict[str, Host]) -> tuple[dict[str, Offer], dict[str, SshmapError]]:
    """Ask hosts for their keys, all at once, but each address once; return offers and failures by host."""
    scans = _Scans()
    return gather(lambda name: fetch(hosts[name], scans), hosts)


class _Scans:
    """What was asked so far: several hosts may be accounts on one machine, whose sshd drops connections when many come at once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, int], threading.Lock] = {}
        self._rows: dict[tuple[str, int], list[tuple[str, str]]] = {}

    def lines(self, resolved: Resolved) -> list[str]:
        """Return known_hosts lines with the keys that a machine shows."""
        address = (resolved.hostname, resolved.port)
        with self._guard:
            lock = self._locks.setdefault(address, threading.Lock())
        with lock:
            if address not in self._rows:
                self._rows[address] = _scan(*address)
        return [f"{resolved.key_name} {kind} {key}" for kind, key in self._rows[address]]


def fetch(host: Host, scans: _Scans) -> Offer:
    """Ask a host for its keys, without logging in.

    Raises:
        HostLost: it does not answer, or is behind a gateway, through which keys cannot be fetched without logging in.
        HostKeyRefused: another key is known for it.
    """
    resolved = resolve(target_of(host))
    if resolved.jumps or resolved.proxy_command:
        raise HostLost(
            "its key cannot be fetched through a gateway",
            hint=f"log in once and compare: ssh {host.address}",
            host=host.name,
        )
    lines = scans.lines(resolved)
    if not lines:
        raise HostLost(
            f"no host key from {resolved.hostname} port {resolved.port} within {SCAN_SECONDS} s", host=host.name
        )
    known, shown = _keys(entries(resolved)), _keys(lines)
    _refuse_changed(host, resolved, known, shown)
    return Offer(
        host=host.name, lines=tuple(lines), fingerprints=tuple(_print(lines)), known=shown <= known,
        file=resolved.known_hosts[0] if resolved.known_hosts else str(Path("~/.ssh/known_hosts").expanduser()),
    )  # fmt: skip


def _keys(lines: Iterable[str]) -> set[tuple[str, str]]:
    """Return kind and key of known_hosts lines."""
    rows = [line.split() for line in lines]
    return {(row[1], row[2]) for row in rows}


def _refuse_changed(host: Host, resolved: Resolved, known: set[tuple[str, str]], shown: set[tuple[str, str]]) -> None:
    kinds = {kind for kind, _ in known}
    changed = [key for key in shown if key[0] in kinds and key not in known]
    if changed:
        former, now = (_print([f"h {kind} {key}" for kind, key in keys])[0] for keys in (known, changed))
        raise HostKeyRefused(
            f"the host key has changed: known {former}, now {now}",
            hint=f"find out why; if it is right: {forget_key(resolved)}, then sshmap trust",
            host=host.name,
        )


def accept(offer: Offer) -> None:
    """Add the offered keys to known_hosts."""
    path = Path(offer.file)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    gap = "" if not before or before.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(gap + "".join(f"{line}\n" for line in offer.lines))


def _scan(hostname: str, port: int) -> list[tuple[str, str]]:
    """Return kind and key of each key that a machine shows, sorted."""
    argv = ["ssh-keyscan", "-T", str(SCAN_SECONDS), "-p", str(port), "--", hostname]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SCAN_SECONDS * 4, check=False)
    rows = [line.split() for line in done.stdout.splitlines() if line and not line.startswith("#")]
    return sorted((row[1], row[2]) for row in rows if len(row) >= 3)


def _print(lines: list[str]) -> list[str]:
    """Return fingerprints as ssh-keygen prints them."""
    argv = ["ssh-keygen", "-lf", "-"]
    done = subprocess.run(
        argv, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=SCAN_SECONDS, check=False
    )
    words = [line.split() for line in done.stdout.splitlines()]
    return [f"{row[1]} {row[-1]}" for row in words if len(row) >= 3]
