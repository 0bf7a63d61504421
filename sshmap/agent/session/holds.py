"""Names that a session holds, so that no other one does the same at the same time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sshmap.errors import LockHeld, Refused
from sshmap.store import locks
from sshmap.store.layout import Root

#: seconds of silence after which a client is taken for lost: it asks for a sign of life every 2 seconds, and one that
#: connects to many hosts before may take longer once
PATIENCE = 40.0
#: seconds that the session of a client that has ended may take to notice: a command typed again at once is not refused for it
LINGERS = 1.0
#: seconds between two tries to take a name
_AGAIN = 0.02


class Holds:
    """The names of one session; let go when it ends, or when its client is silent for too long.

    Args:
        root: the host's root.
        patience: seconds of silence after which they are let go.
    """

    def __init__(self, root: Root, patience: float = PATIENCE) -> None:
        self._root, self._patience = root, patience
        self._paths: list[Path] = []
        self._heard, self._lost = time.monotonic(), False
        self._over, self._guard = threading.Event(), threading.Lock()

    def hold(self, name: str, who: str) -> None:
        """Hold a name.

        Raises:
            LockHeld: another session holds it.
        """
        path = self._take(name, who)
        with self._guard:
            self._paths.append(path)
        if len(self._paths) == 1:
            threading.Thread(target=self._watch, name="holds", daemon=True).start()

    def _take(self, name: str, who: str) -> Path:
        deadline = time.monotonic() + LINGERS
        while True:
            try:
                return locks.hold(self._root, name, who)
            except LockHeld:
                if time.monotonic() > deadline or self._over.wait(_AGAIN):
                    raise

    def hear(self) -> None:
        """Note a sign of life of the client.

        Raises:
            Refused: it comes too late.
        """
        with self._guard:
            self._heard = time.monotonic()
            if self._lost:
                self._lost = False
                raise Refused("what this session held was let go, as its client was silent for too long")

    def _watch(self) -> None:
        while not self._over.wait(self._patience / 10):
            with self._guard:
                if time.monotonic() - self._heard > self._patience:
                    self._lost = True
                    self._let_go()
                    return

    def close(self) -> None:
        """Let go of all."""
        self._over.set()
        with self._guard:
            self._let_go()

    def _let_go(self) -> None:
        while self._paths:
            locks.let_go(self._paths.pop())
