"""Holding a name on all hosts, so that nobody else works on the same at the same time.

The hosts hold it for a session each, and let go when it ends, however it ends. The first host of the inventory that
answers is asked before the others, so that of two clients that begin at once one gets all.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from sshmap.client.conversations import Conversations
from sshmap.client.runs import origin
from sshmap.errors import LockHeld, SshmapError, is_silent
from sshmap.protocol.messages import Hold, Ping, Served
from sshmap.transport.session import Session

#: seconds between two looks whether the sessions still stand
_LOOK = 2.0


class Holding:
    """A name that is held, as long as `check` says nothing else.

    Args:
        conversations: the cluster.
        name: what is held.
        purpose: what for, for whoever is refused.
    """

    def __init__(self, conversations: Conversations, name: str, purpose: str) -> None:
        self._conversations = conversations
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        self._request = Hold(name=name, who=f"{purpose} of {origin()}, process {os.getpid()}, since {since} UTC")
        self._sessions: dict[str, Session] = {}
        self._error: SshmapError | None = None
        self._over = threading.Event()

    def check(self) -> None:
        """Look whether the name is still held.

        Raises:
            LockHeld: a host was lost, and somebody else holds it there since.
        """
        if self._error:
            raise self._error

    def take(self) -> None:
        """Hold the name on all hosts that answer.

        Raises:
            LockHeld: somebody else holds it.
            SshmapError: no host answers, or one does but cannot hold it.
        """
        names, failures = [host.name for host in self._conversations.hosts], dict[str, SshmapError]()
        while names and not self._sessions and all(map(is_silent, failures.values())):
            # one after the other, until one has answered
            failures |= self._conversations.gather(self._take_on, [names.pop(0)])[1]
        if self._sessions:
            failures |= self._conversations.gather(self._take_on, names)[1]
        for error in failures.values():
            if not is_silent(error) or not self._sessions:
                raise error

    def _take_on(self, host: str) -> None:
        session = self._conversations.open(host)
        self._sessions[host] = session
        try:
            session.ask(self._request, Served)
        except SshmapError as exc:
            exc.host = exc.host or host
            del self._sessions[host]
            session.close()
            raise
        if self._over.is_set():
            # nobody may be left to close it
            session.close()

    def keep(self) -> None:
        """Read what the hosts send until `let_go`, and take the name again where a session broke."""
        threads = [
            threading.Thread(target=self._keep_on, args=(host.name,), name=f"holding-{host.name}", daemon=True)
            for host in self._conversations.hosts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _keep_on(self, host: str) -> None:
        """Do so on one host, for whose silence no other one waits."""
        while not self._over.wait(_LOOK):
            try:
                if session := self._sessions.get(host):
                    session.ask(Ping(), Served)
                else:
                    self._take_on(host)
            except LockHeld as exc:
                self._error = exc
            except (SshmapError, OSError):
                if broken := self._sessions.pop(host, None):
                    broken.close()

    def let_go(self) -> None:
        """End it."""
        self._over.set()

    def close(self) -> None:
        """Close the sessions."""
        for session in list(self._sessions.values()):
            session.close()


@contextlib.contextmanager
def holding(conversations: Conversations, name: str, purpose: str) -> Iterator[Holding]:
    """Hold a name meanwhile; see `Holding`.

    Raises:
        LockHeld: somebody else holds it.
    """
    held = Holding(conversations, name, purpose)
    looking = threading.Thread(target=held.keep, name="holding", daemon=True)
    try:
        held.take()
        looking.start()
        yield held
    finally:
        held.let_go()
        if looking.is_alive():
            # a host that is silent is not waited for
            looking.join(_LOOK)
        held.close()
