"""Saying why a task of a job is refused."""

from __future__ import annotations

import time

from sshmap.agent.session.expand import Decision
from sshmap.model import JobSpec, Maker, show
from sshmap.protocol.messages import Problem
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs
from sshmap.store.receipts import digest_maker


def refusal(store: Store, spec: JobSpec, decision: Decision) -> Problem:
    """Say why a task is refused, and what to do about it."""
    output, first = show(decision.task.output), show(decision.task.members[0])
    if decision.doubled:
        return Problem(
            kind="Refused", message=f"two inputs would write to {output}, one of them {first}",
            hint="inputs of a fan-out need different base names",
        )  # fmt: skip
    if decision.holder:
        return _held(store, output, decision.holder)
    maker = digest_maker(spec.maker)
    why, is_former = "it was not made by a job", False
    if decision.rival:
        there = store.keys.maker(decision.rival.maker)
        changed = decision.rival.maker == maker
        why = f"its input {first} was another then" if changed else maker_difference(there, spec.maker)
        same_verb = there is not None and there.verb is spec.maker.verb
        is_former = same_verb and decision.rival.inputs == decision.task.inputs and not spec.keep_done
    ways = ["keep what is there with --keep-done"] if is_former else []
    return Problem(
        kind="OtherReceipt", message=f"{output} exists and was made by other work: {why}",
        hint=", ".join([*ways, "swap it with --replace, or choose another OUTDIR"]), key=output,
    )  # fmt: skip


def _held(store: Store, output: str, holder: int) -> Problem:
    run = next(run for run in Jobs(store.ledger).runs() if run.seq == holder)
    age = max(0, round(time.time() - run.submitted))
    what = f"{run.verb} {run.indir} {run.outdir}"
    return Problem(
        kind="LockHeld", message=f"{output} is being made by run {run.number} ({what}) since {age} s", key=output,
        hint=f"sshmap wait {run.number}, or sshmap cancel {run.number}, then run the command again",
    )  # fmt: skip


def maker_difference(there: Maker | None, now: Maker) -> str:
    """Say how the work that made a key differs from the work asked for."""
    if there is None:
        return "what made it is not known any more"
    if there.verb is not now.verb:
        return f"it was a {there.verb.value}, this is a {now.verb.value}"
    if there.command != now.command:
        return f"the command was {there.command[:200]!r}, is {now.command[:200]!r}"
    old, new = {file.name: file for file in there.shipped}, {file.name: file for file in now.shipped}
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"the files shipped with it differ: {', '.join(changed)}"
