"""Explaining a job before it is run: of each task whether it would be run, kept or refused, and why; nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sshmap.agent.session.expand import Decision
from sshmap.agent.session.planning import Planning
from sshmap.agent.session.refusals import maker_difference, refusal
from sshmap.agent.shuffle import Holdings
from sshmap.model import JobSpec, RunId, show
from sshmap.protocol import messages as m
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs, Run
from sshmap.store.paces import Paces
from sshmap.store.receipts import digest_maker, job_id

_NONE = RunId("")


class Explaining:
    """One job as one host explains it.

    Args:
        store: the host's store.
        spec: the job.
        holdings: for a fan-out, what all hosts hold of the outputs of this host's inputs.
    """

    def __init__(self, store: Store, spec: JobSpec, holdings: Holdings) -> None:
        self._store, self._spec, self._maker = store, spec, digest_maker(spec.maker)
        newest = Jobs(store.ledger).newest(job_id(spec))
        self._planning = Planning(store, spec, newest or Run(seq=0, id=_NONE, epoch=1), holdings)
        self._fresh = 0

    def reasons(self) -> Iterator[m.Reason]:
        """Go through the tasks."""
        for decision in self._planning.decisions():
            yield self._reason(decision)

    def _reason(self, decision: Decision) -> m.Reason:
        output, size = show(decision.task.output), self._size(decision.task.members)
        if decision.kept:
            return m.Reason(output, "keep", "its output is there", size)
        if decision.refused:
            why = refusal(self._store, self._spec, decision).message.replace(f"{output} ", "it ")
            return m.Reason(output, "refuse", why, size)
        self._fresh += 1
        return m.Reason(output, "run", self._why(decision), size)

    def _why(self, decision: Decision) -> str:
        if rival := decision.rival:
            if rival.maker == self._maker:
                return "input changed"
            return f"command changed: {maker_difference(self._store.keys.maker(rival.maker), self._spec.maker)}"
        row = self._store.keys.get(decision.task.output)
        if row and row.receipt is None:
            return "what is there was not made by a job"
        before = Jobs(self._store.ledger).state_before(self._spec.outdir, decision.task.output)
        return {"done": "output missing", "": "new"}.get(before, f"{before} before")

    def _size(self, members: tuple[str, ...]) -> int:
        rows = self._store.keys.rows(members)
        return sum(row.size for row in rows.values())

    def explained(self) -> m.Explained:
        """Return what else there is to say, once all tasks were gone through."""
        disk = os.statvfs(self._store.root.path)
        workers = self._store.root.read_cluster().workers or os.cpu_count() or 1
        last = Jobs(self._store.ledger).last_with(self._maker)
        tasks, mean = Paces(self._store.ledger).mean(last) if last else (0, 0.0)
        seconds = self._fresh * mean / workers if tasks else 0.0
        return m.Explained(free=disk.f_bavail * disk.f_frsize, seconds=seconds)
