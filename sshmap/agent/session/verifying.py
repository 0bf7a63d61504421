"""Answers Verify: reads keys against their digests, tells what is damaged, and puts that aside if it is told to.

A damaged key is put aside only when the client has answered that it knows of it, so that none vanishes unseen, however the
conversation ends.
"""

from __future__ import annotations

import time

from sshmap.agent.host import lifecycle
from sshmap.agent.host.throttle import Throttle
from sshmap.errors import HostLost, ProtocolError
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.store.commit import Store
from sshmap.store.damages import Damages
from sshmap.store.digest import CHUNK
from sshmap.store.integrity import Found, Step, read_keys

#: keys, damaged keys, and seconds after which the client is told how far it is
_KEYS, _FOUND, _SECONDS = 2000, 100, 1.0


def serve_verify(store: Store, request: m.Verify, reader: FrameReader, writer: FrameWriter) -> None:
    """Read the keys that are asked for, and tell of them as it goes on."""
    throttle, report = Throttle(request.rate), _Report(store, request, reader, writer)
    # a piece takes a second at most, so that a client that has left is noticed
    for step in read_keys(store, request.prefix, request.after, request.rate or CHUNK):
        throttle.wait(step.size)
        report.take(step)
    report.send()
    writer.message(m.Served(count=report.keys))


class _Report:
    """What was read and not told yet.

    Args:
        store: the session's store.
        request: what was asked for.
        reader: reads what the client answers.
        writer: writes the answers.
    """

    def __init__(self, store: Store, request: m.Verify, reader: FrameReader, writer: FrameWriter) -> None:
        self._store, self._request, self._reader, self._writer = store, request, reader, writer
        self._damages = Damages(store.ledger)
        #: keys of the whole request
        self.keys = 0
        self._name = self._told = request.after
        self._keys = self._size = 0
        #: bytes of the key that is being read, and how many of them were told
        self._reading = self._told_reading = 0
        self._found: list[Found] = []
        self._sent = time.monotonic()

    def take(self, step: Step) -> None:
        """Take what was read, and tell of it if it is time."""
        self._reading += step.size
        if step.ended:
            self._name = step.name
            self._keys += step.read
            self._size += self._reading
            self._reading = self._told_reading = 0
            self._found += [step.found] if step.found else []
        if self._keys >= _KEYS or len(self._found) >= _FOUND or time.monotonic() - self._sent > _SECONDS:
            self.send()

    def send(self) -> None:
        """Tell what was read since the last time, if anything was."""
        if self._name == self._told and self._reading == self._told_reading:
            return
        # reading may take longer than a daemon stays that nobody uses
        lifecycle.note_use(self._store.root)
        if self._found:
            self._writer.message(m.Damages(rows=tuple(found.damage for found in self._found)))
        aside = self._put_aside() if self._found and self._request.quarantine else ()
        gone = {row.name for row in aside}
        left = [found for found in self._found if found.row.name not in gone]
        self._damages.settle(self._request.prefix, self._told, self._name, left)
        self._writer.message(
            m.Verified(name=self._name, keys=self._keys, size=self._size, reading=self._reading, aside=aside)
        )
        self.keys += self._keys
        self._told, self._told_reading = self._name, self._reading
        self._keys = self._size = 0
        self._found.clear()
        self._sent = time.monotonic()

    def _put_aside(self) -> tuple[m.Aside, ...]:
        """Put aside what is damaged, once the client knows of it; what was mended or replaced since it was read stays.

        Raises:
            HostLost: the client has left.
            ProtocolError: it answers something else.
        """
        answer = self._reader.read()
        if answer is None:
            raise HostLost("the client has left")
        if not isinstance(answer, m.PutAside):
            raise ProtocolError("something else than PutAside came after Damages")
        places = [(found.row.name, self._store.put_aside(found.row, found.seal)) for found in self._found]
        return tuple(m.Aside(name, path) for name, path in places if path is not None)
