"""Temporary steps: their keys are deleted once all that is made from them is made, and made again when something has to be.

What is kept of such a step is a note of digests: of what it was made from, of what was to be done, of what came of it, and
the same of each step that is made from it. While all of these are as they were, neither it nor they have anything to do.
A step whose keys were deleted is made again as a whole: it is not kept which of its keys a change asks for.
"""

from __future__ import annotations

import functools

import msgspec

from sshmap.client.cluster import Cluster
from sshmap.client.described import described
from sshmap.client.listing import Placed
from sshmap.recipe.flow import Flow, Place, Step
from sshmap.recipe.needs import fetched
from sshmap.recipe.notes import Notes
from sshmap.store.digest import digest_of
from sshmap.store.receipts import canonical, digest_maker


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a step was to do, and what came of it, as digests."""

    work: str
    outputs: str


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """A temporary step whose keys were deleted."""

    inputs: str
    made: Made
    #: how many keys it had
    count: int
    #: by name, the steps that are made from it
    after: dict[str, Made]


class Temporaries:
    """The temporary steps of a recipe at one place.

    Args:
        cluster: the cluster.
        place: where the recipe's keys lie.
        flow: its steps.
    """

    def __init__(self, cluster: Cluster, place: Place, flow: Flow) -> None:
        self._cluster, self._place, self._flow = cluster, place, flow
        self._notes = Notes(cluster, place, "collected", Collected)
        #: by the name of a step that this run has made or found complete, digest of what it was made from
        self._inputs_of: dict[str, str] = {}

    @functools.cached_property
    def _gone(self) -> set[str]:
        """Names of the steps whose keys were deleted, whether or not they are still temporary."""
        return self._notes.names()

    def collected(self, step: Step | None) -> Collected | None:
        """Return the note of a temporary step whose keys were deleted, if it would be made of the same as then."""
        note = self._notes.get(step.name) if step and step.temporary and step.name in self._gone else None
        if note and step and (self._inputs(step), self._work(step)) == (note.inputs, note.made.work):
            return note
        return None

    def source_of(self, step: Step) -> Step | None:
        """Return the step that a step is made from, if its keys were deleted: also one that would be made of other things now."""
        source = self._flow.step(step.source) if self._place.is_own(step) else None
        return source if source and source.name in self._gone else None

    def has_all(self, step: Step) -> bool:
        """Say whether a step whose source's keys were deleted needs none of them: it is as it was then."""
        note = self.collected(self.source_of(step))
        return bool(note) and self._made(step) == (note and note.after.get(step.name))

    def rests(self, step: Step) -> bool:
        """Say whether a step's keys were deleted and no step needs them."""
        return bool(self.collected(step)) and all(
            self.rests(after) if after.temporary else self.has_all(after) for after in self._flow.made_from(step.name)
        )

    def forget(self, step: Step) -> None:
        """Take back that a step's keys were deleted: it is about to be made."""
        if step.name in self._gone:
            self._notes.drop(step.name)
            self._gone.discard(step.name)
        self.found(step)

    def found(self, step: Step) -> None:
        """Note what a temporary step is made from, which is about to be made, or complete."""
        if step.temporary:
            self._inputs_of[step.name] = self._inputs(step)

    def collect(self, steps: list[Step]) -> int:
        """Delete the keys of temporary steps from which some steps, which are complete, were made; return how many they were.

        Those stay that this run has not made: nobody knows what they were made from.
        """
        names, count = {step.name for step in steps}, 0
        for step in self._flow.steps:
            after = {one.name for one in self._flow.made_from(step.name)}
            if step.temporary and after and after <= names:
                count += self._collect(step)
        return count

    def _collect(self, step: Step) -> int:
        keys = len(self._listed(self._place.prefix(step.name)))
        if not self.collected(step):
            if step.name not in self._inputs_of:
                return 0
            after = {one.name: self._made(one) for one in self._flow.made_from(step.name)}
            note = Collected(inputs=self._inputs_of[step.name], made=self._made(step), count=keys, after=after)
            self._notes.write(step.name, note)
            self._gone.add(step.name)
        # the note first: keys that are left behind by a kill are deleted the next time
        if keys:
            self._cluster.rm(self._place.prefix(step.name), recursive=True)
        return keys

    def _made(self, step: Step) -> Made:
        note = self.collected(step)
        return Made(work=self._work(step), outputs=note.made.outputs if note else self._state(step.name))

    def _inputs(self, step: Step) -> str:
        """Digest what a step would be made from."""
        note = self.collected(self._flow.step(step.source)) if self._place.is_own(step) else None
        return note.made.outputs if note else self._state_below(self._place.source(step))

    def _state(self, name: str) -> str:
        return self._state_below(self._place.prefix(name))

    def _state_below(self, prefix: str) -> str:
        return digest_of(canonical("keys", tuple(self._listed(prefix)))).hex()

    def _listed(self, prefix: str) -> list[tuple[str, str]]:
        rows = self._cluster.ls(prefix, recursive=True)
        return sorted((row.name, row.digest.hex()) for row in rows if isinstance(row, Placed))

    def _work(self, step: Step) -> str:
        """Digest what a step is to do."""
        source, outdir = self._place.source(step), self._place.prefix(step.name)
        with fetched(self._cluster, self._place, step) as shipped:
            job = described(step.verb, source, outdir, step.command, {"shipped": shipped, "packages": step.packages})
        return digest_maker(job.spec.maker).hex()
