"""Receiving keys: content into temporary files, then many commits in one transaction.

Many small keys share a transaction. Their results are sent when it has ended, not before; each Put has one result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sshmap.agent.session.deliveries import Deliveries
from sshmap.agent.session.incoming import Incoming
from sshmap.errors import DigestMismatch, SshmapError
from sshmap.model import check_name
from sshmap.protocol.framing import FrameReader
from sshmap.protocol.messages import Put, PutResult, Stored, refused
from sshmap.store import locks
from sshmap.store.commit import Outcome, Staged, Store
from sshmap.store.files import mapped_error
from sshmap.store.layout import host_error, remove_tree
from sshmap.store.packages import unpack

#: received keys that wait for a common transaction
GATHER = 200
GATHER_SIZE = 64 << 20


class Receiver:
    """Receives the keys of one session.

    Args:
        store: the session's store.
        take: returns the descriptor of the next file that was handed over.
        deliveries: refuses files that neither a client copies in nor a fan-out brings here.
    """

    def __init__(self, store: Store, take: Callable[[], int], deliveries: Deliveries) -> None:
        self._store, self._take, self._deliveries = store, take, deliveries
        self._scratch = ""
        self._count = 0
        self._waiting: list[Staged | PutResult] = []
        self._size = 0

    def receive(self, put: Put, reader: FrameReader) -> Stored | None:
        """Receive one key; if enough keys wait, commit them and return their results."""
        incoming = Incoming(reader, self._take)
        try:
            item: Staged | PutResult = self._staged(put, incoming)
        except SshmapError as exc:
            if incoming.broken:
                raise
            incoming.drain()
            item = refused(exc, put.name)
        self._waiting.append(item)
        if len(self._waiting) >= GATHER or self._size >= GATHER_SIZE:
            return self._commit()
        return None

    def receive_file(self, path: Path, digest: bytes, reader: FrameReader, *, unpacked: bool = False) -> None:
        """Receive a file that is not a key; its content is read to the end also if it cannot be written.

        Args:
            path: where to; a directory if it is unpacked.
            digest: of its content.
            reader: reads the client's frames.
            unpacked: whether it is an archive of wheels.

        Raises:
            DigestMismatch: it is not what was announced.
            NoSpace: the disk is full.
        """
        incoming = Incoming(reader, self._take)
        try:
            fresh = self._fresh_path()
            if incoming.save(fresh).digest != digest:
                raise DigestMismatch("a shipped file arrived damaged", hint="run the command again")
            if unpacked:
                self._unpack(fresh, path)
            else:
                os.replace(fresh, path)
        except SshmapError:
            if not incoming.broken:
                incoming.drain()
            raise
        except OSError as exc:
            incoming.drain()
            raise host_error(exc, path) from exc

    def _unpack(self, archive: str, path: Path) -> None:
        folder = Path(self._fresh_path())
        unpack(Path(archive), folder, path)
        try:
            os.rename(folder, path)
        except OSError:
            if not path.is_dir():  # else another client was first
                raise
        path.chmod(0o500)

    def flush(self) -> Iterator[Stored]:
        """Commit the keys that wait, if any, and go through the results."""
        if self._waiting:
            yield self._commit()

    def _fresh_path(self) -> str:
        if not self._scratch:
            self._scratch = str(locks.scratch_dir(self._store.root))
        self._count += 1
        return f"{self._scratch}/{self._count}"

    def _staged(self, put: Put, incoming: Incoming) -> Staged:
        check_name(put.name)
        self._deliveries.check(put)
        path = self._fresh_path()
        try:
            content = incoming.save(path)
        except OSError as exc:
            raise mapped_error(exc, put.name) from exc
        self._size += content.size
        return Staged(
            path=path, name=put.name, size=content.size, digest=content.digest, sealed=content.sealed, receipt=put.receipt,
            members=put.members, replace=put.replace, spares=put.receipt is not None,
        )  # fmt: skip

    def _commit(self) -> Stored:
        waiting, self._waiting, self._size = self._waiting, [], 0
        items = [item for item in waiting if isinstance(item, Staged)]
        try:
            results = iter(self._committed(items))
        except SshmapError as exc:
            results = iter([refused(exc, item.name) for item in items])
        for item in items:
            # a file that has become a key was moved away
            if os.path.exists(item.path):
                os.unlink(item.path)
        return Stored(results=tuple(next(results) if isinstance(item, Staged) else item for item in waiting))

    def _committed(self, items: list[Staged]) -> list[PutResult]:
        """Commit those keys that can be committed, in one transaction; if that fails, none is committed."""
        self._store.prepare(items)
        with self._store.committing():
            results = [self._result(item) for item in items]
            if any(result.fresh or result.repaired for result in results):
                self._store.ledger.bump()
        return results

    def _result(self, item: Staged) -> PutResult:
        try:
            outcome = self._store.commit(item)
        except SshmapError as exc:
            return refused(exc, item.name)
        return PutResult(item.name, fresh=outcome is Outcome.FRESH, repaired=outcome is Outcome.REPAIRED)

    def close(self) -> None:
        """Drop what was not committed."""
        if self._scratch:
            remove_tree(Path(self._scratch))
            self._scratch = ""
