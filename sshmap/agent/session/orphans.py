"""Outputs of a job's own work whose inputs are gone: keys with its maker whose lineage lies in INDIR and is deleted.

Only what the same work made counts, and only what was made from keys that INDIR names: the same command may have worked
on other directories into the same OUTDIR.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from sshmap.agent.shuffle import Holdings
from sshmap.job_checks import check_job
from sshmap.model import JobSpec, Receipt, Verb
from sshmap.store.commit import Store
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import digest_maker

#: outputs that are looked at together, with one query for their inputs
_BATCH = 500


class Orphans:
    """The orphaned outputs of a job on one host: those of a map or merge, or of the fan-out of this host's inputs.

    Args:
        store: the host's store.
        spec: the job.
    """

    def __init__(self, store: Store, spec: JobSpec) -> None:
        self._store = store
        self._source = check_job(spec)
        self._outdir = spec.outdir.split("://", 1)[1]
        self._is_fanout = spec.maker.verb is Verb.FANOUT
        self._maker = digest_maker(spec.maker)

    def count(self, present: int, holdings: Holdings) -> int:
        """Count them.

        Args:
            present: outputs of the job's own work that belong to its present inputs; if there are no others, none is orphaned.
            holdings: for a fan-out, what all hosts hold.
        """
        if self._is_fanout:
            return sum(holdings.count(output, receipt) for output, receipt in self.directories())
        if self._store.keys.count_made(self._outdir, self._maker) == present:
            return 0
        return sum(1 for _ in self.names())

    def names(self) -> Iterator[str]:
        """Go through the orphaned outputs of a map or merge."""
        made = self._store.keys.made_by(self._outdir, self._maker)
        for some in iter(lambda: list(itertools.islice(made, _BATCH)), []):
            missing = self._missing(some)
            yield from (name for (name, _), is_gone in zip(some, missing, strict=True) if is_gone)

    def directories(self) -> Iterator[tuple[str, Receipt]]:
        """Go through the directories that a fan-out filled from inputs of this host that are gone, and their keys' receipts."""
        made = Outbox(self._store.ledger).fanouts_by(self._outdir, self._maker)
        for some in iter(lambda: list(itertools.islice(made, _BATCH)), []):
            missing = self._missing([(output, (member,)) for output, _, member in some])
            yield from (
                (output, receipt) for (output, receipt, _), is_gone in zip(some, missing, strict=True) if is_gone
            )

    def _missing(self, made: Sequence[tuple[str, tuple[str, ...]]]) -> Iterable[bool]:
        """Say of each output whether all its inputs lay in INDIR and none of them is there now."""
        # the first of each, as there may be very many of a merge
        present = self._store.keys.receipts([members[0] for _, members in made if members])
        for _, members in made:
            yield bool(members) and members[0] not in present and all(map(self._is_gone, members))

    def _is_gone(self, name: str) -> bool:
        return self._is_input(name) and self._store.keys.get(name) is None

    def _is_input(self, name: str) -> bool:
        return name.startswith(self._source.prefix) and self._source.picks(name)

    def remove(self) -> tuple[int, int]:
        """Delete the orphaned outputs of a map or merge; return how many there were, and their bytes."""
        keys = size = 0
        names = self.names()
        while some := list(itertools.islice(names, _BATCH)):
            # looked at again while nobody else writes: an input may be back, or an output be other work's now
            removed = self._store.remove_each(some, self._still)
            keys, size = keys + removed.keys, size + removed.size
        return keys, size

    def _still(self, names: Sequence[str]) -> list[str]:
        receipts = self._store.keys.receipts(list(names))
        own = [name for name, receipt in receipts.items() if receipt and receipt.maker == self._maker]
        made = [(name, self._store.keys.members_of(name)) for name in own]
        return [name for name, is_gone in zip(own, self._missing(made), strict=True) if is_gone]

    def forget(self) -> None:
        """Delete the records of a fan-out's tasks whose outputs were deleted as orphans."""
        while some := list(itertools.islice(self.directories(), _BATCH)):
            with self._store.ledger.change():
                Outbox(self._store.ledger).forget_fanouts([output for output, _ in some])
