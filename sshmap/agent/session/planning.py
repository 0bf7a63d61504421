"""A job on one host, from its plan until all its tasks are queued.

Planning and queueing go through the same decisions, one by one, so that memory does not grow with the number of tasks.
Keys are read on a connection of their own: SQLite refuses a write on one that reads an older snapshot.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

import msgspec

from sshmap.agent.host.wake import wake
from sshmap.agent.session import expand
from sshmap.agent.session.orphans import Orphans
from sshmap.agent.session.refusals import refusal
from sshmap.agent.shuffle import Holdings
from sshmap.job_checks import check_job
from sshmap.model import JobSpec, Receipt, Verb, base_name
from sshmap.protocol.messages import Planned, Problem
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs, Run
from sshmap.store.keys import Keys
from sshmap.store.ledger import Ledger
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import digest_maker, job_id
from sshmap.store.tasks import NewTask, Tasks
from sshmap.store.wholeness import Wholeness

T = TypeVar("T")
#: tasks that are judged together, with one query each
_BATCH = 500
#: tasks queued in the first transaction, few so that workers begin soon, and in each later one
_FIRST, _STEP = 200, 1000
#: most seconds between two transactions, in which other processes can write to the ledger
_MOST_PAUSE = 0.1
_MOST_PROBLEMS = 100


class Planning:
    """One job as one host plans it.

    Args:
        store: the host's store.
        spec: the job.
        run: its run, opened before the holdings were counted.
        holdings: for a fan-out, what all hosts hold of the outputs of this host's inputs.
        sample: most tasks that are run; 0 for all.
    """

    def __init__(self, store: Store, spec: JobSpec, run: Run, holdings: Holdings, sample: int = 0) -> None:
        self._sample = sample
        self._store, self.spec, self.run, self._holdings = store, spec, run, holdings
        self._tasks, self._jobs = Tasks(store.ledger), Jobs(store.ledger)
        self._source = check_job(spec)
        self._outdir = spec.outdir.split("://", 1)[1]
        self._maker = digest_maker(spec.maker)
        #: by maker: whether its outputs count as done
        self._kept_makers: dict[bytes, bool] = {self._maker: True}
        #: whether another job is making keys below OUTDIR
        self._shares_outdir = self._tasks.making_below(run, self._outdir)
        #: tasks that were not queued, as their outputs are there
        self.kept = 0

    def plan(self) -> Planned:
        """Count what the job would do here, changing nothing; for a merge, also say what is missing of its inputs."""
        plan = self._counted_fresh() or self._counted()
        if self._sample:
            plan = msgspec.structs.replace(plan, fresh=min(plan.fresh, self._sample))
        if self.spec.maker.verb is Verb.MERGE and not self.spec.partial:
            gaps = Wholeness(self._store.ledger, self._source.prefix).gaps()
            return msgspec.structs.replace(plan, gaps=tuple(gaps[:_MOST_PROBLEMS]))
        return plan

    def _counted(self) -> Planned:
        counts: Counter[str] = Counter()
        problems: list[Problem] = []
        for decision in self.decisions():
            counts["inputs"] += len(decision.task.members)
            counts["kept"] += bool(decision.kept)
            counts["refused"] += decision.refused
            counts["own"] += self._is_own(decision.kept or decision.rival)
            counts["fresh"] += not decision.kept and not decision.refused
            if decision.refused and len(problems) < _MOST_PROBLEMS:
                problems.append(refusal(self._store, self.spec, decision))
        return Planned(
            job=job_id(self.spec), inputs=counts["inputs"], fresh=counts["fresh"], kept=counts["kept"], problems=tuple(problems),
            refused=counts["refused"], orphans=Orphans(self._store, self.spec).count(counts["own"], self._holdings),
        )  # fmt: skip

    def _is_own(self, receipt: Receipt | None) -> bool:
        return receipt is not None and receipt.maker == self._maker

    def _counted_fresh(self) -> Planned | None:
        """Plan a job without tasks and outputs yet by counting, which takes a tenth of the time; None if it has some.

        Rejected: to let the first tasks run while the others are judged, since no task of a refused job may run.
        """
        if (
            self._shares_outdir
            or self._holdings
            or self._store.keys.any_below(self._outdir.removesuffix("/"))
            or self._tasks.any_of(self.run)
        ):
            return None
        if self.spec.maker.verb is Verb.FANOUT and Outbox(self._store.ledger).any_fanout_below(self._outdir):
            return None
        with contextlib.closing(Ledger(self._store.root)) as ledger:
            inputs, tasks = self._count(Keys(ledger))
        return None if tasks < 0 else Planned(job=job_id(self.spec), inputs=inputs, fresh=tasks, kept=0)

    def _count(self, keys: Keys) -> tuple[int, int]:
        """Return the number of inputs and of tasks; fewer than none of a fan-out of which two tasks have one output."""
        prefix = self._source.prefix
        if self.spec.maker.verb is Verb.MERGE:
            return expand.count_groups(self._source, keys.grouped(prefix))
        names = filter(self._source.picks, keys.names(prefix))
        if self.spec.maker.verb is Verb.MAP:
            inputs = sum(1 for _ in names)
            return inputs, inputs
        bases = Counter(map(base_name, names))
        return bases.total(), len(bases) if bases.total() == len(bases) else -1

    def queue(self) -> Generator[None, None, None]:
        """Queue the tasks whose outputs are missing, in small steps; after each, wake the workers and let others write."""
        with self._store.ledger.change():
            self._jobs.begin_queueing(self.run)
        decisions = self._sampled() if self._sample else self.decisions()
        pause, size = 0.0, _FIRST
        while batch := list(itertools.islice(decisions, size)):
            time.sleep(pause)
            self.kept += sum(bool(decision.kept) for decision in batch)
            began = time.monotonic()
            with self._store.ledger.change():
                if self._jobs.is_ending(self.run.seq):
                    break
                self._enqueue(batch)
            pause, size = min(_MOST_PAUSE, time.monotonic() - began), _STEP
            wake(self._store.root, "worker")
            yield
        with self._store.ledger.change():
            self._jobs.end_queueing(self.run, self.kept)
        wake(self._store.root, "courier")

    def _sampled(self) -> Iterator[expand.Decision]:
        """Go through the decisions up to as many tasks to be run as are wanted."""
        left = self._sample
        for decision in self.decisions():
            yield decision
            left -= not decision.kept and not decision.refused
            if not left:
                return

    def _enqueue(self, batch: list[expand.Decision]) -> None:
        """Queue what is to be run; what came to be refused since the job was planned fails. Within a transaction."""
        held: dict[str, int] = {}
        if self._tasks.making_below(self.run, self._outdir):
            held = self._tasks.being_made(self.run, [decision.task.output for decision in batch if not decision.kept])
        fresh: list[NewTask] = []
        for decision in batch:
            holder = held.get(decision.task.output, 0)
            if holder or decision.refused:
                why = refusal(self._store, self.spec, msgspec.structs.replace(decision, holder=holder))
                self._tasks.refuse(self.run, decision.task, why.kind, why.message)
            elif not decision.kept:
                fresh.append(decision.task)
        self._tasks.enqueue(self.run, fresh)

    def kept_stale(self) -> Iterator[tuple[str, Receipt]]:
        """Go through output directories of kept tasks that also hold keys of other work, and the receipts to keep."""
        if self.spec.replace and self._holdings:
            for decision in self.decisions():
                if decision.kept and decision.task.stale:
                    yield decision.task.output, decision.kept

    def decisions(self) -> Iterator[expand.Decision]:
        """Go through the tasks of the job, and what is to be done about each."""
        with contextlib.closing(Ledger(self._store.root)) as ledger:
            outputs: set[str] = set()
            for some in _batches(self._expanded(Keys(ledger)), _BATCH):
                for decision in self._judged(some):
                    yield self._once(decision, outputs) if self.spec.maker.verb is Verb.FANOUT else decision

    def _expanded(self, keys: Keys) -> Iterator[NewTask]:
        verb, source = self.spec.maker.verb, self._source
        if verb is Verb.MERGE:
            return expand.merge_tasks(source, self._outdir, keys.grouped(source.prefix))
        inputs = ((entry.name, entry.digest) for entry in keys.scan(source.prefix))
        make = expand.fanout_tasks if verb is Verb.FANOUT else expand.map_tasks
        return make(source, self._outdir, inputs)

    def _judged(self, tasks: list[NewTask]) -> Iterator[expand.Decision]:
        """Decide about tasks; one that is in the run and unfinished, or ended since the client opened it, is neither kept nor refused."""
        outputs = [task.output for task in tasks]
        inputs_in_run = self._tasks.inputs_in_run(self.run, outputs)
        made = self._tasks.being_made(self.run, outputs) if self._shares_outdir else {}
        judge = self._judge_fanouts(outputs) if self.spec.maker.verb is Verb.FANOUT else self._judge_keys(outputs)
        for task in tasks:
            if task.output in made:
                yield expand.Decision(task=task, refused=True, holder=made[task.output])
                continue
            yield expand.Decision(task=task) if inputs_in_run.get(task.output) == task.inputs else judge(task)

    def _judge_keys(self, outputs: list[str]) -> Callable[[NewTask], expand.Decision]:
        existing, undone = self._store.keys.receipts(outputs), self._undone(outputs)

        def judge(task: NewTask) -> expand.Decision:
            keeps = self._maker.__eq__ if task.output in undone else self._keeps
            return expand.judge_key(task, existing, keeps=keeps, replace=self.spec.replace)

        return judge

    def _judge_fanouts(self, outputs: list[str]) -> Callable[[NewTask], expand.Decision]:
        records, undone = Outbox(self._store.ledger).fanouts(outputs), self._undone(outputs)

        def judge(task: NewTask) -> expand.Decision:
            receipt, record = Receipt(self._maker, task.inputs), records.get(task.output)
            if self.spec.keep_done and record and record[0].inputs == task.inputs and task.output not in undone:
                receipt = record[0]
            complete = receipt if self._holdings.is_complete(task.output, receipt, record) else None
            rivals = self._holdings.rivals(task.output, complete or Receipt(self._maker, task.inputs))
            return expand.judge_fanout(task, complete=complete, rivals=rivals, replace=self.spec.replace)

        return judge

    def _undone(self, outputs: list[str]) -> set[str]:
        """Return the outputs that the newest work on them has not made: what lies there is from older work, and is not kept."""
        return self._tasks.undone(self.run, self.spec.outdir, outputs) if self.spec.keep_done else set()

    def _keeps(self, maker: bytes) -> bool:
        """Say whether outputs of a maker count as done: those of this job, and if it keeps what is done, of any with its verb."""
        if maker not in self._kept_makers:
            former = self._store.keys.maker(maker) if self.spec.keep_done else None
            self._kept_makers[maker] = former is not None and former.verb is self.spec.maker.verb
        return self._kept_makers[maker]

    @staticmethod
    def _once(decision: expand.Decision, outputs: set[str]) -> expand.Decision:
        """Refuse a fan-out task that has the same output directory as an earlier one of the job."""
        if decision.task.output in outputs:
            return expand.Decision(task=decision.task, refused=True, doubled=True)
        outputs.add(decision.task.output)
        return decision


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
