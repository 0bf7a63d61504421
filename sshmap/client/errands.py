"""Cancels that some hosts have not been told of: hosts that were reached remember them, and any client delivers them."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable

from sshmap.model import Owed

#: cancels that one host may have others told of
_MOST = 1000


class Errands:
    """What the hosts of one cluster have others told. Safe for several threads.

    Args:
        hosts: the names of all hosts.
    """

    def __init__(self, hosts: Container[str]) -> None:
        self._hosts = hosts
        self._guard = threading.Lock()
        #: by host that has to be told, and run: the cancel, and the hosts that remember it
        self._due: dict[str, dict[str, tuple[Owed, set[str]]]] = {}
        #: runs and hosts that were told of their cancel
        self._told: set[tuple[str, str]] = set()

    def note(self, noter: str, owed: Iterable[Owed]) -> None:
        """Take what a host remembers."""
        with self._guard:
            for cancel in list(owed)[:_MOST]:
                # a host that is met knows what it remembers
                for host in (name for name in cancel.hosts if name in self._hosts and name != noter):
                    _, noters = self._due.setdefault(host, {}).setdefault(cancel.run, (cancel, set()))
                    noters.add(noter)

    def take(self, host: str) -> list[tuple[Owed, set[str]]]:
        """Return what a host has to be told now, each with the hosts that remember it, and forget it."""
        if host not in self._due:
            return []
        with self._guard:
            return list(self._due.pop(host, {}).values())

    def hosts(self) -> list[str]:
        """Return the hosts that have to be told something now."""
        with self._guard:
            return [host for host, due in self._due.items() if due]

    def settle(self, owed: Owed, host: str) -> tuple[str, ...]:
        """Take that a host was told of a cancel; return the hosts that have not been told."""
        with self._guard:
            self._told.add((owed.run, host))
            return tuple(name for name in owed.hosts if (owed.run, name) not in self._told)
