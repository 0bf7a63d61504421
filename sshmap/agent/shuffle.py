"""The bookkeeping of the fan-out: files in the outbox, their way out, and what has arrived around the cluster."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator

from sshmap.agent.host.wake import wake
from sshmap.model import Receipt, base_name
from sshmap.protocol.framing import FrameWriter
from sshmap.protocol.messages import End, Handed, OutputCount, Problem, Relay, RelayItem, Served
from sshmap.store.commit import Store
from sshmap.store.layout import Root
from sshmap.store.queue import Parcel, Queue
from sshmap.store.receipts import names_digest
from sshmap.transport.session import Session

#: files sent before their answers are awaited
AHEAD = 256
#: bytes sent before answers are awaited
AHEAD_SIZE = 256 << 20
#: bytes from which on a file of its own is cheaper than a part of the stream
WORTH_HANDING = 64 << 10


class Outgoing:
    """A file of the outbox, open for reading.

    Its digest was taken when the command had ended; who receives it compares.

    Args:
        root: the host's root.
        parcel: which file.

    Raises:
        FileNotFoundError: it is lost, so its task has to run again.
    """

    def __init__(self, root: Root, parcel: Parcel) -> None:
        self._parcel = parcel
        self._fd = os.open(root.outbox / str(parcel.id), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def send(self, session: Session) -> None:
        """Hand it over if the peer is on this machine and the file not tiny, else send its content."""
        handed = Handed(size=self._parcel.size, digest=self._parcel.digest)
        if self._parcel.size < WORTH_HANDING or not session.writer.message_by(
            handed, lambda frame: session.channel.hand(frame, self._fd)
        ):
            self.stream(session.writer)

    def stream(self, writer: FrameWriter) -> None:
        """Send its content and End."""
        writer.file(self._fd, self._parcel.size)
        writer.message(End(size=self._parcel.size, digest=self._parcel.digest), flush=False)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def acknowledge(store: Store, arrived: list[Parcel], refused: dict[int, Problem]) -> None:
    """Take files out of the outbox that have arrived or were refused; the tasks of the latter fail, with all their files."""
    queue = Queue(store.ledger)
    with store.ledger.change():
        queue.delivered([parcel for parcel in arrived if parcel.id not in refused])
        for parcel in arrived:
            if problem := refused.get(parcel.id):
                queue.fail(parcel.task, problem.kind, problem.message, 0)
    for parcel in arrived:
        (store.root.outbox / str(parcel.id)).unlink(missing_ok=True)
    if refused:
        sweep(store)
    wake(store.root, "worker")


def lose(store: Store, parcel: Parcel) -> None:
    """Have a task run again whose file in the outbox is lost, unless somebody else has brought it to its host meanwhile."""
    queue = Queue(store.ledger)
    with store.ledger.change():
        lost = parcel.id in queue.posted()
        if lost:
            queue.rewind(parcel.task)
    if lost:
        sweep(store)
        wake(store.root, "worker")


def sweep(store: Store) -> None:
    """Delete files of the outbox that have no row.

    Within a write transaction, as workers link a file before they commit its row.
    """
    with store.ledger.change():
        posted = {str(number) for number in Queue(store.ledger).posted()}
        for entry in os.scandir(store.root.outbox):
            if entry.name not in posted:
                os.unlink(entry.path)


def send_parcels(store: Store, request: Relay, writer: FrameWriter) -> None:
    """Send what waits for a peer to a client that will carry it there."""
    count = size = 0
    for parcel in Queue(store.ledger).parcels(request.peer, 0, AHEAD):
        maker = store.keys.maker(parcel.receipt.maker)
        try:
            outgoing = Outgoing(store.root, parcel)
        except FileNotFoundError:
            lose(store, parcel)
            break
        with contextlib.closing(outgoing):
            assert maker is not None, "a job's maker is remembered with the job"
            writer.message(
                RelayItem(id=parcel.id, name=parcel.name, receipt=parcel.receipt, maker=maker, replace=parcel.replaces),
                flush=False,
            )
            outgoing.stream(writer)
        count, size = count + 1, size + parcel.size
        if size > AHEAD_SIZE:
            break
    writer.message(Served(count=count))


def count_outputs(outdir: str, keys: Iterable[tuple[str, Receipt | None]]) -> Iterator[OutputCount]:
    """Sum up keys below OUTDIR, which come in order, by directory and receipt."""
    located = (
        (name[: name.find("/", len(outdir)) + 1], name, receipt) for name, receipt in keys if "/" in name[len(outdir) :]
    )
    for output, rows in itertools.groupby(located, key=lambda row: row[0]):
        groups: dict[Receipt | None, list[str]] = {}
        for _, name, receipt in rows:
            groups.setdefault(receipt, []).append(base_name(name))
        for receipt, bases in groups.items():
            yield OutputCount(output, receipt, len(bases), names_digest(bases))
