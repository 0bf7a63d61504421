"""The fan-out's bookkeeping: what was sent where, what is complete around the cluster, what is stale.

The outputs of a fan-out task lie on many hosts, so no host sees whether they are all there. The host of the input keeps
a record of what each task has put around the cluster (`fanouts`: how many names, and their digest); at the next run
every host counts what lies in each output directory, by receipt, the client adds the counts up, and the task is
complete if they equal the record. Counts of other receipts are rivals: because of them the job is refused, or with
``--replace`` their keys are stale, and are deleted when the fresh outputs are there. Files may arrive while hosts
count, thus this order::

    client                    host of an input                 other hosts
    Open ───────────────────► makes or joins the run (all hosts, before anybody counts)
           ◄──── Opened ───── its epoch grows: tasks that are unfinished now, or end later, belong to it
    CountOutputs ───────────► ◄─────────── OutputCounts ────── (all hosts)
    adds the counts up, sends each host those of its inputs
    Plan, OutputCounts… ────► judges all other tasks by record and counts
           ◄──── Planned ──── all hosts have planned, none refuses: else nothing is started
    Start, OutputCounts… ───► queues, workers run; a commit puts what belongs here into data/,
                              the rest into the outbox, and the record into `fanouts`
                              courier ───────────────────────► commits; its answer takes the file
           ◄──── RunEnded ─── last file arrived: done          out of the outbox
    Sweep ──────────────────► ───────────────────────────────► deletes what is stale (all hosts)

When a session breaks, the client repeats the request, whichever it was. Open names the run by the client's id, so it
returns the same run. CountOutputs changes nothing. Plan and Start name run and epoch, so tasks that ended before the
break still belong to the run, failed ones too, and are not judged by counts from before they ended. A file that is
sent twice has an equal receipt and digest, which is success. Sweep deletes those stale keys that are left. A run that
was opened and never started is joined by the next client that opens the job.

Rejected: to count after the host has chosen which tasks to run (files on their way would be missed or counted twice);
to stop all couriers while hosts count (one host that is down would stop the others).
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

from sshmap.agent.host.wake import wake
from sshmap.model import Receipt, base_name
from sshmap.protocol.framing import FrameWriter
from sshmap.protocol.messages import End, Handed, OutputCount, Problem, Relay, RelayItem, Served
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox, Parcel
from sshmap.store.receipts import names_digest
from sshmap.store.tasks import Tasks
from sshmap.transport.session import Session

#: files sent before their answers are awaited
AHEAD = 256
#: bytes sent before answers are awaited
AHEAD_SIZE = 256 << 20
#: bytes in the outbox above which no fan-out is begun
FULL_OUTBOX = 4 << 30


class Outgoing:
    """A file of the outbox, open for reading.

    Its digest was taken when the command had ended; the receiver compares.

    Args:
        root: the host's root.
        parcel: which file.

    Raises:
        FileNotFoundError: it is lost, so its task has to run again.
    """

    def __init__(self, root: Root, parcel: Parcel) -> None:
        self._parcel = parcel
        self._fd = os.open(f"{root.outbox}/{parcel.id}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def send(self, session: Session, pace: Callable[[int], object] = int) -> None:
        """Hand the file over if the peer is on this machine, else send its content, as fast as it is let."""
        handed = Handed(size=self._parcel.size, digest=self._parcel.digest)
        # also tiny files: some file systems take long to find room for a new one after many were deleted
        if not session.writer.message_by(handed, lambda frame: session.channel.hand(frame, self._fd)):
            self.stream(session.writer, pace)

    def stream(self, writer: FrameWriter, pace: Callable[[int], object] = int) -> None:
        """Send its content and End; ``pace`` is called after each piece with its bytes, and may wait."""
        writer.file(self._fd, self._parcel.size, pace)
        writer.message(End(size=self._parcel.size, digest=self._parcel.digest), flush=False)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def acknowledge(store: Store, sent: list[Parcel], refused: dict[int, Problem]) -> None:
    """Take files out of the outbox that arrived or were refused; a task with a refused file fails, and its other files go too."""
    outbox, tasks = Outbox(store.ledger), Tasks(store.ledger)
    with store.ledger.change():
        # not files whose task was queued again meanwhile: its next attempt posts its own
        waiting = outbox.held(sent)
        was_full = outbox.size() >= FULL_OUTBOX
        outbox.take_out(waiting)
        for parcel in waiting:
            if problem := refused.get(parcel.id):
                tasks.fail(parcel.task, problem.kind, problem.message, 0)
        tasks.finish_sent({parcel.task for parcel in waiting})
    for parcel in sent:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{store.root.outbox}/{parcel.id}")
    if refused:
        sweep(store)
    if was_full:
        wake(store.root, "worker")


def lose(store: Store, parcel: Parcel) -> None:
    """Queue the task again whose file in the outbox is lost, unless a client has relayed the file meanwhile."""
    with store.ledger.change():
        lost = bool(Outbox(store.ledger).held([parcel]))
        if lost:
            Tasks(store.ledger).rewind(parcel.task)
    if lost:
        sweep(store)
        wake(store.root, "worker")


def drop_sending(store: Store) -> bool:
    """Cancel some tasks of cancelled runs whose files are on their way, and delete the files; say whether there were any."""
    was_full = Outbox(store.ledger).size() >= FULL_OUTBOX
    if not Endings(store.ledger).drop_sending():
        return False
    sweep(store)
    if was_full:
        wake(store.root, "worker")
    return True


def sweep(store: Store) -> None:
    """Delete files of the outbox that have no row.

    Within a write transaction, as workers move a file there before they commit its row.
    """
    with store.ledger.change():
        posted = {str(number) for number in Outbox(store.ledger).posted()}
        for entry in os.scandir(store.root.outbox):
            if entry.name not in posted:
                os.unlink(entry.path)


def send_parcels(store: Store, request: Relay, writer: FrameWriter) -> None:
    """Send the files that wait for a peer to a client, which relays them."""
    count = size = 0
    for parcel in Outbox(store.ledger).parcels(request.peer, AHEAD):
        try:
            outgoing = Outgoing(store.root, parcel)
        except FileNotFoundError:
            lose(store, parcel)
            break
        with contextlib.closing(outgoing):
            writer.message(
                RelayItem(
                    id=parcel.id,
                    name=parcel.name,
                    receipt=parcel.receipt,
                    members=parcel.members,
                    replace=parcel.replaces,
                ),
                flush=False,
            )
            outgoing.stream(writer)
        count, size = count + 1, size + parcel.size
        if size > AHEAD_SIZE:
            break
    writer.message(Served(count=count))


class Holdings:
    """How many keys all hosts hold below OUTDIR, by directory and receipt; for the outputs of one host's inputs."""

    def __init__(self) -> None:
        self._counts: dict[str, list[OutputCount]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, rows: Iterable[OutputCount]) -> None:
        """Add some rows."""
        for row in rows:
            self._counts.setdefault(row.output, []).append(row)

    def count(self, output: str, receipt: Receipt) -> int:
        """Return how many keys with a receipt lie in a directory."""
        return sum(row.count for row in self._counts.get(output, []) if row.receipt == receipt)

    def is_complete(self, output: str, receipt: Receipt, record: tuple[Receipt, int, bytes] | None) -> bool:
        """Say whether the hosts hold all the keys that, by its record, a task has put around the cluster."""
        if record is None or record[0] != receipt:
            return False
        counts = self._counts.get(output, [])
        return record[1:] == next(((row.count, row.names) for row in counts if row.receipt == receipt), (0, bytes(16)))

    def rivals(self, output: str, receipt: Receipt) -> list[OutputCount]:
        """Return the counts of keys of other work in a directory."""
        return [row for row in self._counts.get(output, []) if row.receipt != receipt]


def count_outputs(outdir: str, keys: Iterable[tuple[str, Receipt | None]]) -> Iterator[OutputCount]:
    """Count keys below OUTDIR, which have to be sorted by name, by directory and receipt."""
    located = (
        (name[: name.find("/", len(outdir)) + 1], name, receipt) for name, receipt in keys if "/" in name[len(outdir) :]
    )
    for output, rows in itertools.groupby(located, key=lambda row: row[0]):
        groups: dict[Receipt | None, list[str]] = {}
        for _, name, receipt in rows:
            groups.setdefault(receipt, []).append(base_name(name))
        for receipt, bases in groups.items():
            yield OutputCount(output, receipt, len(bases), names_digest(bases))
