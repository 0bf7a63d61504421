"""What a client can ask about jobs: opening, planning, starting and following them, and relaying fan-out files.

The order of the requests of a fan-out is drawn in `sshmap.agent.shuffle`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sshmap.agent.session.explaining import Explaining
from sshmap.agent.session.following import Following
from sshmap.agent.session.orphans import Orphans
from sshmap.agent.session.planning import Planning
from sshmap.agent.shuffle import AHEAD, Holdings, acknowledge, count_outputs, send_parcels
from sshmap.errors import HostLost, ProtocolError
from sshmap.job_checks import check_job
from sshmap.model import Receipt, RunId, Verb
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs
from sshmap.store.notices import Notices
from sshmap.store.outbox import Outbox
from sshmap.store.space import Space
from sshmap.transport.channel import Channel

#: rows in one message
_ROWS = 2000


class ServedJobs:
    """The part of a session that is about jobs.

    Args:
        store: the session's store.
        channel: becomes readable when the client leaves.
        reader: reads the client's messages.
        writer: writes the answers.
    """

    def __init__(self, store: Store, channel: Channel, reader: FrameReader, writer: FrameWriter) -> None:
        self._store, self._channel, self._reader, self._writer = store, channel, reader, writer

    def open(self, request: m.Open) -> None:
        """Make a run of a job, or join its newest one if that is not over."""
        check_job(request.job)
        jobs = Jobs(self._store.ledger)
        run = jobs.open(request.job, RunId(request.run), agreed=request.agreed)
        # a peer that a former run could not reach may be reachable now
        Outbox(self._store.ledger).try_anew()
        self._writer.message(m.Opened(run=run.id, epoch=run.epoch, number=run.number, highest=jobs.highest()))

    def count_outputs(self, request: m.CountOutputs) -> None:
        """Count the keys below OUTDIR by directory and receipt."""
        rows: list[m.OutputCount] = []
        for row in count_outputs(request.outdir, self._store.keys.below(request.outdir)):
            rows.append(row)
            if len(rows) >= _ROWS:
                self._writer.message(m.OutputCounts(rows=tuple(rows)))
                rows.clear()
        self._writer.message(m.OutputCounts(rows=tuple(rows)))
        self._writer.message(m.Served())

    def plan(self, request: m.Plan) -> None:
        """Say what a job would do on this host."""
        plan = self._planned(request).plan()
        space = Space(self._store.root)
        if plan.fresh and space.is_short():
            raise space.error()
        self._writer.message(plan)

    def _planned(self, request: m.Plan | m.Start) -> Planning:
        """Read the counts of all hosts that follow the request, and plan the job by them."""
        holdings = self._holdings(request)
        run = Jobs(self._store.ledger).find(RunId(request.run), request.epoch)
        return Planning(self._store, request.job, run, holdings, request.sample)

    def _holdings(self, request: m.Plan | m.Start | m.Explain) -> Holdings:
        holdings = Holdings()
        while not isinstance(page := self._reader.read(), m.Counted):
            if not isinstance(page, m.OutputCounts):
                raise ProtocolError(f"{type(request).__name__} is not followed by OutputCounts and Counted")
            holdings.add(page.rows)
        return holdings

    def explain(self, request: m.Explain) -> None:
        """Say of each task what would be done about it, and why."""
        holdings = self._holdings(request)
        explaining = Explaining(self._store, request.job, holdings)
        reasons = explaining.reasons()
        while page := tuple(itertools.islice(reasons, _ROWS)):
            self._writer.message(m.Reasons(rows=page))
        self._writer.message(explaining.explained())

    def start(self, request: m.Start) -> None:
        """Queue the tasks whose outputs are missing, and report until the run is over or only waits for lost peers."""
        planning = self._planned(request)
        verb = request.job.maker.verb
        Jobs(self._store.ledger).begin(planning.run, request.number, request.origin, request.limits, request.wanted)
        if request.notify and request.hosts:
            Notices(self._store.ledger).expect(planning.run.seq, request.notify, request.hosts)
        following = Following(self._store, planning.run, verb, lambda: planning.kept, request.limits)
        self._queue_all(planning, following)
        if request.detach:
            self._writer.message(following.ended())
            return
        ended = following.follow(self._writer.message, self._channel.readable)
        self._send_directories(itertools.chain(following.stale(), planning.kept_stale()))
        self._writer.message(ended)

    def _queue_all(self, planning: Planning, following: Following) -> None:
        """Queue all tasks, reporting progress after each step; a client that leaves stops the reports, not the queueing."""
        left: HostLost | None = None
        for _ in planning.queue():
            if left is None:
                try:
                    self._writer.message(following.progress())
                except HostLost as exc:
                    left = exc
        if left:
            raise left

    def sweep(self, request: m.Sweep) -> None:
        """Delete what other work left beside fresh fan-out outputs, or outputs whose inputs are gone."""
        count = size = 0
        for row in request.directories:
            names = [name for name, _ in self._store.keys.below(row.output)]
            removed = self._store.remove_each(
                names, functools.partial(self._to_sweep, row.receipt, orphaned=request.orphaned)
            )
            count, size = count + removed.keys, size + removed.size
        self._writer.message(m.Removed(count=count, size=size))

    def _to_sweep(self, receipt: Receipt, names: Sequence[str], *, orphaned: bool) -> list[str]:
        receipts = self._store.keys.receipts(list(names))
        return [name for name, there in receipts.items() if (there == receipt) is orphaned]

    def prune(self, request: m.Prune) -> None:
        """Delete the outputs of a map or merge whose inputs are gone, or say in which directories those of a fan-out lie."""
        orphans = Orphans(self._store, request.job)
        if request.swept:
            orphans.forget()
            self._writer.message(m.Removed(count=0, size=0))
            return
        if request.job.maker.verb is not Verb.FANOUT:
            count, size = orphans.remove()
            self._writer.message(m.Removed(count=count, size=size))
            return
        self._send_directories(orphans.directories())
        self._writer.message(m.Removed(count=0, size=0))

    def _send_directories(self, found: Iterator[tuple[str, Receipt]]) -> None:
        directories = (m.OutputDirectory(output, receipt) for output, receipt in found)
        while page := tuple(itertools.islice(directories, _ROWS)):
            self._writer.message(m.StaleOutputs(directories=page))

    def relay(self, request: m.Relay) -> None:
        """Send the client fan-out files that wait for a peer, to relay them."""
        send_parcels(self._store, request, self._writer)

    def delivered(self, request: m.Delivered) -> None:
        """Take files out of the outbox that a client has brought to their peer."""
        ids = set(request.ids)
        waiting = Outbox(self._store.ledger).parcels(request.peer, 2 * AHEAD)
        acknowledge(self._store, [parcel for parcel in waiting if parcel.id in ids], request.refused)
        self._writer.message(m.Served())


#: who answers which request
JOB_REQUESTS: dict[type[m.Message], Callable[[ServedJobs, Any], None]] = {
    m.Open: ServedJobs.open, m.CountOutputs: ServedJobs.count_outputs, m.Plan: ServedJobs.plan, m.Explain: ServedJobs.explain, m.Start: ServedJobs.start,
    m.Sweep: ServedJobs.sweep, m.Prune: ServedJobs.prune, m.Relay: ServedJobs.relay, m.Delivered: ServedJobs.delivered,
}  # fmt: skip
