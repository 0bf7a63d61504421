"""What a recipe would do, step by step, before anything is done.

Each host says what it would do about a step as things are. What an earlier step makes anew, this step makes anew
as well; if that turns out to be equal content, it need not, so that what is said here is the most that can be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from sshmap.client.cluster import Cluster
from sshmap.client.listing import Placed
from sshmap.model import Verb
from sshmap.placement import numeric_prefix
from sshmap.recipe.collecting import Temporaries
from sshmap.recipe.flow import Flow, Place, Step
from sshmap.recipe.needs import fetched


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of the keys in the directory of files or of a step."""

    #: names of those that would be made, or made anew
    made: frozenset[str] = frozenset()
    #: names of those that would be deleted
    gone: frozenset[str] = frozenset()
    #: whether more may come that nobody can name yet: files of a fan-out
    more: bool = False


class StepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done about one step."""

    name: str
    #: that of its job, or what else is done
    verb: str
    #: outputs that would be made, and why
    run: dict[str, str]
    #: number of outputs that would be kept
    keep: int
    change: Change
    #: whether there may be tasks that nobody can name yet, as they are made of such keys
    grows: bool


def plan(
    cluster: Cluster, place: Place, flow: Flow, steps: Iterable[Step], changes: Mapping[str, Change]
) -> list[StepPlan]:
    """Say what would be done about steps, in order, and about those that have to be made again for them.

    Args:
        cluster: the cluster.
        place: where keys lie.
        flow: all steps.
        steps: those that are asked about.
        changes: by the name of files, what would become of them.
    """
    planning = _Planning(cluster, place, flow, changes)
    wanted = list(steps)
    for step in wanted:
        planning.add(step, last=flow.is_last(step, wanted))
    return list(planning.found.values())


class _Planning:
    """What is known so far of what would be done; arguments as of `plan`."""

    def __init__(self, cluster: Cluster, place: Place, flow: Flow, changes: Mapping[str, Change]) -> None:
        self._cluster, self._place, self._flow = cluster, place, flow
        self._known, self._temporaries = dict(changes), Temporaries(cluster, place, flow)
        self.found: dict[str, StepPlan] = {}

    def add(self, step: Step, *, last: bool) -> None:
        """Say what would be done about a step, and about that which has to be made again for it.

        Args:
            step: the step.
            last: whether its keys are asked for, as nothing is made from it.
        """
        still = all(self._change(name) == Change() for name in self._flow.above(step.name))
        if still and not (last and step.temporary) and (count := self._at_rest(step)) is not None:
            self.found[step.name] = StepPlan(
                name=step.name, verb=step.verb.value, run={}, keep=count, change=Change(), grows=False
            )
        else:
            self._make(step)

    def _change(self, name: str) -> Change:
        return self._known.get(name, Change())

    def _make(self, step: Step) -> None:
        if (gone := self._temporaries.source_of(step)) and gone.name not in self._known:
            self._make(gone)
        source = self._change(step.source) if self._place.is_own(step) else Change()
        anew = any(self._change(name) != Change() for name in step.needs)
        self.found[step.name] = _plan_one(self._cluster, self._place, step, source, anew=anew)
        self._known[step.name] = self.found[step.name].change

    def _at_rest(self, step: Step) -> int | None:
        """Return how many keys a step has that has nothing to do as keys of temporary ones are not needed; None if it is not so."""
        if step.temporary and self._temporaries.rests(step) and (note := self._temporaries.collected(step)):
            return note.count
        if not step.temporary and self._temporaries.has_all(step):
            rows = self._cluster.ls(self._place.prefix(step.name), recursive=True)
            return sum(isinstance(row, Placed) for row in rows)
        return None


def _plan_one(cluster: Cluster, place: Place, step: Step, source: Change, *, anew: bool) -> StepPlan:
    """Say what would be done about a step.

    Args:
        cluster: the cluster.
        place: where keys lie.
        step: the step.
        source: what would become of its inputs.
        anew: whether something that it ships would be made anew.
    """
    runs, kept = _explained(cluster, place, step)
    for name in sorted(kept if anew else ()):
        runs.setdefault(name, "what is shipped with it is made anew")
    there = {mark(step.verb, name): name for name in (*kept, *runs)}
    for one in _marks(step.verb, source.made):
        runs.setdefault(there.get(one, one), "its input is made anew")
    gone = {there[one] for one in _marks(step.verb, source.gone) & there.keys()}
    if step.verb is Verb.MERGE:
        # a group is smaller then, and other files may come to it
        coming = kept if source.more else set[str]()
        runs = (
            dict.fromkeys(coming, "files that an earlier step makes may come to it")
            | dict.fromkeys(gone, "an input is gone")
            | runs
        )
        gone = set()
    for name in gone:
        runs.pop(name, None)
    return StepPlan(
        name=step.name, verb=step.verb.value, run=runs, keep=len(kept - runs.keys() - gone), grows=source.more,
        change=_change(cluster, place, step, runs.keys(), gone, more=source.more),
    )  # fmt: skip


def _change(
    cluster: Cluster, place: Place, step: Step, made: Collection[str], gone: Collection[str], *, more: bool
) -> Change:
    """Say what would become of a step's keys if some of its outputs were made, and some deleted."""
    if step.verb is not Verb.FANOUT:
        return Change(made=frozenset(made), gone=frozenset(gone), more=more)
    prefix = place.prefix(step.name)
    rows = cluster.ls(prefix, recursive=True)
    names = [row.name.removeprefix(prefix) for row in rows if isinstance(row, Placed)]

    def below(outputs: Collection[str]) -> frozenset[str]:
        return frozenset(name for name in names if f"{name.rsplit('/', 1)[0]}/" in outputs)

    return Change(made=below(made), gone=below(gone), more=more or bool(made))


def _explained(cluster: Cluster, place: Place, step: Step) -> tuple[dict[str, str], set[str]]:
    """Ask the hosts what they would do; return what would be run with the reason, and what would be kept, by names below OUTDIR."""
    outdir = place.prefix(step.name)
    with fetched(cluster, place, step) as shipped:
        plans = cluster.explain(
            step.verb,
            place.source(step),
            outdir,
            step.command,
            replace=True,
            shipped=shipped,
            packages=step.packages,
        )
    tasks = [task for plan in plans.values() for task in plan.tasks]
    runs = {task.output.removeprefix(outdir): task.why for task in tasks if task.decision == "run"}
    return runs, {task.output.removeprefix(outdir) for task in tasks if task.decision == "keep"}


def _marks(verb: Verb, names: Iterable[str]) -> set[str]:
    return {mark(verb, name) for name in names}


def mark(verb: Verb, name: str) -> str:
    """Return what a step's input and the output that is made of it have in common, by the name of either."""
    if verb is Verb.MAP:
        return name
    base = name.rstrip("/").rsplit("/", 1)[-1]
    return f"{base}/" if verb is Verb.FANOUT else numeric_prefix(base) or base
