"""Messages about the host itself: its status, its peers, its daemon."""

from __future__ import annotations

from sshmap.model import Count, Peer, Size
from sshmap.protocol.base import Message


class GetStatus(Message, frozen=True, kw_only=True):
    """Asks for the status of the host."""


class Status(Message, frozen=True, kw_only=True):
    """The status of a host."""

    host: str
    keys: Count
    size: Size
    #: bytes
    free: Size
    cores: int
    workers: int
    daemon: bool
    #: process id of the daemon, 0 if there is none
    pid: int = 0
    queued: Count = 0
    running: Count = 0
    version: str = ""
    #: id of the code the agent runs from; empty if it was not shipped
    runtime: str = ""
    #: what compiled code depends on: Python's version, machine, C library
    platform: tuple[str, str, str] = ("", "", "")
    #: the key this host logs in to its peers with
    public_key: str = ""
    #: digest of what it was told about its peers
    peers_digest: str = ""
    #: tells one root from another
    root_id: str = ""
    findings: tuple[str, ...] = ()


class Diagnose(Message, frozen=True, kw_only=True):
    """Asks for what only the host itself can find out."""


class Diagnosis(Message, frozen=True, kw_only=True):
    """The answer to Diagnose."""

    #: peers that it cannot bring files to, with the reason
    unreached: dict[str, str] = {}
    #: what else is wrong, and what mends it
    findings: tuple[tuple[str, str], ...] = ()


class CountLineage(Message, frozen=True, kw_only=True):
    """Asks how many keys of some hosts, which are lost, are known here as inputs of keys that lie here."""

    hosts: tuple[str, ...]


class LineageCounts(Message, frozen=True, kw_only=True):
    """Answers CountLineage."""

    #: by host: number of such keys, which is the least that it has held
    keys: dict[str, Count]


class StartDaemon(Message, frozen=True, kw_only=True):
    """Starts the daemon and waits until it answers."""


class SetPeers(Message, frozen=True, kw_only=True):
    """Introduces the other hosts: how to reach them, their host keys, the keys they log in with."""

    peers: tuple[Peer, ...]
    #: lines of a known_hosts file
    known_hosts: tuple[str, ...]
    #: names of the hosts that may bring files, and the public keys they log in with, without options
    authorized: tuple[tuple[str, str], ...]


class PeersSet(Message, frozen=True, kw_only=True):
    """Answers SetPeers: the host has taken in what it was told of its peers."""


class StopDaemon(Message, frozen=True, kw_only=True):
    """Stops the daemon; with purge, the root is deleted too."""

    purge: bool = False


class DaemonStopped(Message, frozen=True, kw_only=True):
    """The daemon has stopped."""

    #: whether one was running
    was_running: bool
    #: whether there was a root
    there: bool = True
