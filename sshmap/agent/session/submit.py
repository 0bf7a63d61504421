"""A session's jobs: plan them, start them, report how they go. The work itself belongs to the daemon."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from sshmap.agent.host import lifecycle
from sshmap.agent.host.wake import wake
from sshmap.agent.session import expand
from sshmap.errors import HostLost, HostNotReady
from sshmap.model import JobId, JobSpec, Maker, Receipt, Verb, check_job, show
from sshmap.protocol.messages import Failure, OutputCount, Planned, Problem, Progress, RunEnded
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.layout import Root
from sshmap.store.queue import NewTask, Queue
from sshmap.store.receipts import digest_maker, job_id

T = TypeVar("T")
_BATCH = 2000
_MOST_PROBLEMS = 100
_MOST_FAILURES = 1000
#: seconds between looks at the ledger, and which part of a job's time so far they are between these
_FASTEST, _SLOWEST, _SHARE = 0.003, 0.25, 0.005
#: seconds between looks whether the daemon lives
_DAEMON_LOOK = 1.0
#: seconds without progress while only files for peers that do not answer are left
STUCK_LIMIT = 10.0
#: looks without progress at which nobody was there to do what is left
DESERTED_LOOKS = 15


class Submission:
    """One job as one host sees it.

    Args:
        store: the host's store.
        spec: the job.
        counts: for a fan-out, what all hosts hold below OUTDIR, as far as this host's inputs are concerned.
        since: the first run that counts; what ended in it is younger than the counts. 0: the run that is started.
    """

    def __init__(self, store: Store, spec: JobSpec, counts: Iterable[OutputCount] = (), since: int = 0) -> None:
        self._store = store
        self._queue = Queue(store.ledger)
        self._spec = spec
        self._source = check_job(spec)
        self._maker = digest_maker(spec.maker)
        self._counts: dict[str, list[OutputCount]] = {}
        for row in counts:
            self._counts.setdefault(row.output, []).append(row)
        self.job: JobId = job_id(spec)
        self._since = since
        self._run = self._kept = 0

    def plan(self) -> Planned:
        """Count what the job would do here, changing nothing."""
        counts: Counter[str] = Counter()
        problems: list[Problem] = []
        outputs: set[str] = set()
        for decision in self._decisions():
            doubled = self._spec.maker.verb is Verb.FANOUT and decision.task.output in outputs
            outputs.add(decision.task.output) if self._spec.maker.verb is Verb.FANOUT else None
            counts["inputs"] += len(decision.task.members)
            counts["kept"] += decision.kept
            if decision.refused or doubled:
                counts["refused"] += 1
                if len(problems) < _MOST_PROBLEMS:
                    problems.append(self._doubled(decision.task) if doubled else self._refusal(decision))
            elif not decision.kept:
                counts["fresh"] += 1
        return Planned(
            job=self.job,
            inputs=counts["inputs"],
            fresh=counts["fresh"],
            kept=counts["kept"],
            problems=tuple(problems),
            refused=counts["refused"],
        )

    def start(self, *, attach: bool = False) -> int:
        """Queue what is not there yet and wake the workers, once; return how many tasks are kept.

        Args:
            attach: to the present run, if there is one: what has failed in it counts as failed.
        """
        if self._run:
            return self._kept
        with self._store.ledger.change():
            present = self._queue.present_run(self.job) if attach else None
            self._store.keys.remember(self._spec.maker)
            run = present[0] if present else self._queue.open_job(self.job, self._spec, self._maker)
            self._run = self._since or run
            for decisions in _batches(self._decisions(), _BATCH):
                fresh = [decision.task for decision in decisions if not decision.kept and not decision.refused]
                self._queue.enqueue(self.job, run, fresh, replaces=self._spec.replace, since=self._run)
                self._kept += sum(decision.kept for decision in decisions)
            if present:
                # what the run has done is there by now, and counts as done
                self._kept = present[1]
            self._queue.note_kept(self.job, self._kept)
        wake(self._store.root, "worker")
        return self._kept

    def follow(self, report: Callable[[Progress], None], left: Callable[[float], bool]) -> RunEnded:
        """Wait until the job is over here and tell how it goes; the daemon is kept alive meanwhile.

        Args:
            report: told whenever something has changed.
            left: waits so many seconds for the client to leave and says whether it did.

        Raises:
            HostLost: the client left; the job goes on without it.
            HostNotReady: the daemon or those of its processes that are needed do not stay up.
        """
        version, looked, begun = -1, 0.0, time.monotonic()
        progress, moved, deserted = Progress(), begun, 0
        while True:
            cost = 0.0
            if time.monotonic() - looked > _DAEMON_LOOK:
                lifecycle.ensure_running(self._store.root)
                deserted = self._look_for_hands(progress, deserted)
                looked = time.monotonic()
            if (now := self._store.ledger.data_version()) != version:
                version, look = now, time.monotonic()
                if (latest := self._progress()) != progress:
                    progress, moved, deserted = latest, time.monotonic(), 0
                    report(progress)
                cost = time.monotonic() - look
            if self._is_over(progress, moved):
                return self._finished(progress)
            pause = min(_SLOWEST, max(_FASTEST, _SHARE * (time.monotonic() - begun)))
            if left(max(pause, 5 * cost)):
                raise HostLost("the client left")

    def _look_for_hands(self, progress: Progress, deserted: int) -> int:
        """Count the looks at which nobody was there to do what is left."""
        root: Root = self._store.root
        role = "worker" if progress.queued or progress.running else "courier" if progress.sending else ""
        names = [path.name for path in root.locks.glob(f"{role}*")] if role else []
        if not role or any(locks.is_held(root, name) for name in names):
            return deserted
        if deserted >= DESERTED_LOOKS:
            raise HostNotReady(f"the daemon's {role} does not stay up", hint=f"see {root.logs / 'daemon.log'}")
        return deserted + 1

    def _is_over(self, progress: Progress, moved: float) -> bool:
        if not (progress.queued or progress.running or progress.sending):
            return True
        waiting = progress.sending and progress.stuck and not (progress.queued or progress.running)
        return bool(waiting) and time.monotonic() - moved > STUCK_LIMIT

    def _progress(self) -> Progress:
        states, size = self._queue.states(self.job, self._run)
        stuck = self._queue.stuck(self.job) if states.get("sending") else {}
        barred = tuple(self._queue.barred()) if stuck else ()
        return Progress(size=size, stuck=stuck, barred=barred, kept=self._kept, **states)

    def _finished(self, progress: Progress) -> RunEnded:
        failures = tuple(
            Failure(
                key=_subject(self._spec.maker.verb, members, output),
                attempt=attempt,
                kind=kind,
                message=message,
                exit_code=code or 0,
            )
            for members, output, attempt, kind, message, code in self._queue.failed(self.job, self._run, _MOST_FAILURES)
        )
        stale = tuple(
            OutputCount(output, receipt, 0, bytes(16)) for output, receipt in self._queue.stale(self.job, self._run)
        )
        return RunEnded(
            done=progress.done,
            failed=progress.failed,
            size=progress.size,
            kept=self._kept,
            failures=failures,
            stale=stale + self._kept_beside_stale(),
            stuck=progress.stuck,
            why={peer: self._queue.why_stuck(peer) for peer in progress.stuck},
        )

    def _kept_beside_stale(self) -> tuple[OutputCount, ...]:
        """Fan-outs that were complete already, but with keys of other work beside them."""
        if not (self._spec.replace and self._counts):
            return ()
        return tuple(
            OutputCount(decision.task.output, Receipt(self._maker, decision.task.inputs), 0, bytes(16))
            for decision in self._decisions()
            if decision.kept and decision.task.stale
        )

    def _decisions(self) -> Iterator[expand.Decision]:
        keys, source, outdir = self._store.keys, self._source, self._spec.outdir.split("://", 1)[1]
        verb, replace = self._spec.maker.verb, self._spec.replace
        if verb is Verb.FANOUT:
            ours = self._queue.outputs(self.job, self._since) if self._since else set()
            for task in expand.fanout_tasks(
                source, outdir, ((entry.name, entry.digest) for entry in keys.scan(source.prefix))
            ):
                record = None if task.output in ours else self._queue.fanout(task.output)
                counts = self._counts.get(task.output, [])
                yield expand.judge_fanout(task, self._maker, record, counts, replace=replace)
            return
        if verb is Verb.MERGE:
            tasks = expand.merge_tasks(source, outdir, keys.members(source.prefix))
        else:
            tasks = expand.map_tasks(source, outdir, ((entry.name, entry.digest) for entry in keys.scan(source.prefix)))
        for some in _batches(tasks, _BATCH):
            existing = keys.receipts([task.output for task in some])
            yield from (expand.judge_key(task, self._maker, existing, replace=replace) for task in some)

    def _refusal(self, decision: expand.Decision) -> Problem:
        there = self._store.keys.maker(decision.rival.maker) if decision.rival else None
        why = maker_difference(there, self._spec.maker) if decision.rival else "it was not made by a job"
        if decision.rival and decision.rival.maker == self._maker:
            why = f"its input {show(decision.task.members[0])} was another then"
        output = show(decision.task.output)
        return Problem(
            kind="OtherReceipt",
            message=f"{output} exists and was made by other work: {why}",
            hint="run it again with --replace, or choose another OUTDIR",
            key=output,
        )

    def _doubled(self, task: NewTask) -> Problem:
        return Problem(
            kind="Refused",
            message=f"two inputs would write to {show(task.output)}, one of them {show(task.members[0])}",
            hint="inputs of a fan-out need different base names",
        )


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


def _subject(verb: Verb, members: str, output: str) -> str:
    return show(output if verb is Verb.MERGE else members.split("\n", 1)[0])


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
