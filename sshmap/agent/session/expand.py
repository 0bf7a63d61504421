"""Making tasks from a job and a listing of keys, and deciding about them. Pure; the three verbs differ only here.

map      each input                  → one task, output OUTDIR + path below INDIR
fanout   each input                  → one task, outputs below OUTDIR + base name + /
merge    each group of equal names   → one task, output OUTDIR + name of the group
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import msgspec

from sshmap.job_checks import Indir
from sshmap.model import Receipt, base_name
from sshmap.placement import numeric_prefix
from sshmap.protocol.messages import OutputCount
from sshmap.store.receipts import digest_inputs
from sshmap.store.tasks import NewTask


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about a task."""

    task: NewTask
    #: the receipt of its outputs that are there already and are kept; None if it has to run
    kept: Receipt | None = None
    #: the receipt of other work at its output; None if there is none, or the key there has no receipt
    rival: Receipt | None = None
    refused: bool = False
    #: another input of the job would write to the same place
    doubled: bool = False
    #: number, in the ledger, of the run of another job that is making its output; 0 if there is none
    holder: int = 0


def map_tasks(source: Indir, outdir: str, inputs: Iterable[tuple[str, bytes]]) -> Iterator[NewTask]:
    """Make the tasks of a map."""
    for name, digest in inputs:
        if source.picks(name):
            yield NewTask(
                output=outdir + name[len(source.below) :], members=(name,), inputs=digest_inputs([(name, digest)])
            )


def fanout_tasks(source: Indir, outdir: str, inputs: Iterable[tuple[str, bytes]]) -> Iterator[NewTask]:
    """Make the tasks of a fan-out."""
    for name, digest in inputs:
        if source.picks(name):
            yield NewTask(output=f"{outdir}{base_name(name)}/", members=(name,), inputs=digest_inputs([(name, digest)]))


def merge_tasks(source: Indir, outdir: str, inputs: Iterable[tuple[str, str, bytes]]) -> Iterator[NewTask]:
    """Make the tasks of a merge from inputs ordered by group and name."""
    for _, rows in itertools.groupby(inputs, key=lambda row: row[0]):
        members = [(name, digest) for _, name, digest in rows if source.picks(name)]
        if members:
            names = tuple(name for name, _ in members)
            yield NewTask(
                output=outdir + group_name([base_name(name) for name in names]),
                members=names,
                inputs=digest_inputs(members),
            )


def count_groups(source: Indir, inputs: Iterable[tuple[str, str, bytes]]) -> tuple[int, int]:
    """Return the number of inputs and of tasks of a merge, from inputs ordered by group."""
    members = tasks = 0
    for _, rows in itertools.groupby(inputs, key=lambda row: row[0]):
        picked = sum(source.picks(name) for _, name, _ in rows)
        members, tasks = members + picked, tasks + bool(picked)
    return members, tasks


def group_name(bases: list[str]) -> str:
    """Name the output of a merged group: prefix and suffix if all share the suffix, else the prefix."""
    first = bases[0]
    if all(base == first for base in bases):
        return first
    return numeric_prefix(first)


def judge_key(
    task: NewTask, existing: dict[str, Receipt | None], *, keeps: Callable[[bytes], bool], replace: bool
) -> Decision:
    """Decide about a map or merge task by what lies at its output.

    Args:
        task: the task.
        existing: receipts of the keys that are there.
        keeps: says whether outputs of a maker count as done.
        replace: swap what other work made.
    """
    if task.output not in existing:
        return Decision(task=task)
    there = existing[task.output]
    if there and there.inputs == task.inputs and keeps(there.maker):
        return Decision(task=task, kept=there)
    return Decision(task=task, rival=there, refused=not replace)


def judge_fanout(task: NewTask, *, complete: Receipt | None, rivals: list[OutputCount], replace: bool) -> Decision:
    """Decide about a fan-out task by whether its outputs are complete, of which receipt, and what of other work lies beside them."""
    marked = msgspec.structs.replace(task, stale=bool(rivals))
    if rivals and not replace:
        return Decision(task=marked, rival=rivals[0].receipt, refused=True)
    return Decision(task=marked, kept=complete)
