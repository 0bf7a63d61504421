"""The values an inventory is made of."""

from __future__ import annotations

import functools
from typing import Literal

import msgspec

from sshmap.errors import UsageError
from sshmap.inventory.ranges import expand, fold
from sshmap.limits import parse_duration, parse_size
from sshmap.placement import Ring


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One host; every field can be set in the inventory's ``[defaults]`` as well."""

    name: str
    #: what to connect to; the name if empty
    address: str = ""
    #: 0 leaves it to ssh_config, which leaves it to 22
    port: int = 0
    user: str = ""
    identity_file: str = ""
    #: ssh_config to read instead of the user's
    ssh_config: str = ""
    #: interpreter on the host; searched for if empty
    python: str = ""
    #: the one directory sshmap owns there; ``~`` is the home there
    root: str = ""
    #: share of the hashed keys, relative to the other hosts
    weight: float = 1.0
    #: worker processes; 0 means one per core
    workers: int = 0
    groups: tuple[str, ...] = ()
    #: what carries the connection from the laptop; ``auto`` is fabric, and for large content the ssh program
    transport: Literal["auto", "fabric", "openssh"] = "auto"
    #: hosts to go through, as ssh's ProxyJump
    gateway: str = ""
    #: ``local`` starts the agent as a child process on this machine
    connect: Literal["ssh", "local"] = "ssh"
    #: seconds without work after which the daemon stops; 0 means never
    idle_stop: float = 0.0
    #: what has to stay free on its disk for tasks to begin, like ``10G``; 2 GiB or 5 % of the disk if empty
    reserve: str = ""
    #: time in which the daemon reads each key once while nothing else is to be done, like ``30d``; never if empty
    scrub: str = ""

    @property
    def reserve_bytes(self) -> int:
        """What has to stay free on its disk; 0 if the host is to choose."""
        return parse_size(self.reserve, "reserve") if self.reserve else 0

    @property
    def scrub_seconds(self) -> float:
        """The time to read each key once, 0 if that is not done."""
        return parse_duration(self.scrub, "scrub") if self.scrub else 0.0

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine, reached without ssh."""
        return self.connect == "local"


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """All hosts, in the order that numbers them."""

    hosts: tuple[Host, ...]
    #: path of the file it was read from, or a description of the built-in local cluster
    origin: str
    #: whether it is the built-in local cluster, and why that is used if nobody asked for it
    is_builtin: bool = False
    reason: str = ""
    #: how fan-out files travel between hosts
    shuffle: Literal["auto", "direct", "relay"] = "auto"
    #: for each host and field, where its value came from
    sources: dict[str, dict[str, str]] = {}

    @property
    def ring(self) -> Ring:
        """The ring of these hosts; the same object for the same hosts, as making one takes long."""
        return _ring(tuple((host.name, host.weight) for host in self.hosts))

    @property
    def called(self) -> str:
        """The hosts, shortly: their names, or that they are the built-in local cluster, and why."""
        names = [host.name for host in self.hosts]
        reason = f" ({self.reason})" if self.reason else ""
        return f"the built-in local cluster of {len(names)}{reason}" if self.is_builtin else fold(names)

    def shares(self) -> dict[str, float]:
        """Return each host's share of the keys by its weight, between 0 and 1."""
        total = sum(host.weight for host in self.hosts)
        return {host.name: host.weight / total for host in self.hosts}

    def select(self, only: str = "", without: str = "") -> tuple[Host, ...]:
        """Pick hosts by name, range or ``@group``, several separated by commas.

        Raises:
            UsageError: a name or group is not in the inventory, or nothing is left.
        """
        chosen = self._names(only) if only else {host.name for host in self.hosts}
        chosen -= self._names(without) if without else set()
        if not chosen:
            raise UsageError(f"no host left: --hosts {only!r} --exclude {without!r}")
        return tuple(host for host in self.hosts if host.name in chosen)

    def _names(self, text: str) -> set[str]:
        known = {host.name for host in self.hosts}
        names: set[str] = set()
        for word in _split(text):
            if word.startswith("@"):
                members = {host.name for host in self.hosts if word[1:] in host.groups}
                if not members:
                    raise UsageError(
                        f"no host is in group {word!r}", hint=f"groups: {', '.join(self._groups()) or 'none'}"
                    )
            else:
                members = set(expand(word))
            if unknown := members - known:
                raise UsageError(
                    f"unknown host {fold(sorted(unknown))}", hint=f"hosts: {fold([host.name for host in self.hosts])}"
                )
            names |= members
        return names

    def _groups(self) -> list[str]:
        return sorted({f"@{group}" for host in self.hosts for group in host.groups})


def _split(text: str) -> list[str]:
    """Split at commas outside brackets: ``h[1,3],@big`` is two words."""
    words, depth, word = [], 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            words.append(word)
            word = ""
        else:
            word += char
    return [part for part in [*words, word] if part]


@functools.lru_cache(maxsize=8)
def _ring(members: tuple[tuple[str, float], ...]) -> Ring:
    return Ring(members)
