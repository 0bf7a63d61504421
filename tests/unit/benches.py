"""A ledger with what works on it, as the tests of its statements use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, RunId, Verb
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.forgetting import Forgetting
from sshmap.store.jobs import Jobs, Run
from sshmap.store.layout import Root
from sshmap.store.tasks import NewTask, Task, Tasks

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))


def other(name: str, verb: Verb = Verb.MAP) -> JobSpec:
    """Return another job, with an OUTDIR of its own."""
    return msgspec.structs.replace(SPEC, outdir=f"sm://{name}/", maker=Maker(verb=verb, command=name))


class Bench:
    """A ledger with what works on it."""

    def __init__(self, root: Root) -> None:
        self.store = Store(root)
        self.ledger = self.store.ledger
        self.jobs, self.tasks, self.endings = Jobs(self.ledger), Tasks(self.ledger), Endings(self.ledger)
        self.forgetting = Forgetting(self.store)

    def open(self, name: str = "1", spec: JobSpec = SPEC) -> Run:
        """Open the job as a client does."""
        run = self.jobs.open(spec, RunId(name))
        self.jobs.begin(run, run.seq, "user@machine", Limits())
        return run

    def queue(self, run: Run, *outputs: str, inputs: bytes = b"i") -> None:
        """Queue tasks with these outputs."""
        with self.ledger.change():
            self.jobs.begin_queueing(run)
            self.tasks.enqueue(run, [NewTask(output=output, members=("in/x",), inputs=inputs) for output in outputs])
            self.jobs.end_queueing(run, 0)

    def begin(self, name: str, spec: JobSpec, tasks: int, limits: Limits | None = None) -> Run:
        """Open a job and queue so many tasks of it."""
        run = self.open(name, spec)
        self.jobs.begin(run, run.seq, "me@here", limits or Limits())
        self.queue(run, *(f"{spec.outdir[5:]}{number:06}" for number in range(tasks)))
        return run

    def claim(self, count: int = 1, slot: int = 0) -> list[Task]:
        """Claim tasks."""
        return self.tasks.claim(slot, count, fanouts=True)

    def end(self, task: Task, *, fails: bool = False) -> None:
        """End a task as a worker does."""
        with self.ledger.change():
            if fails:
                self.tasks.fail(task.id, "CommandsFailed", "exit 1", 1)
            else:
                self.tasks.finish({task.id: 10})

    def states(self, run: Run) -> dict[str, int]:
        """Return the numbers of tasks by state."""
        return self.jobs.states(run)[0]

    def attempts(self) -> list[tuple[int, str]]:
        """Return numbers and outcomes of all attempts."""
        return self.ledger.db.execute("SELECT number, outcome FROM attempts ORDER BY task, number").fetchall()

    def counted(self, run: Run) -> dict[str, int]:
        """Count a run's tasks by state, one by one."""
        rows = self.ledger.db.execute("SELECT state, count(*) FROM tasks WHERE run = ? GROUP BY state", (run.seq,))
        return dict(rows)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = Root(tmp_path / "root")
    root.create()
    bench = Bench(root)
    yield bench
    bench.store.close()
