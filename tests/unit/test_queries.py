"""No statement that is made for each task, key or look goes through a whole table."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap.limits import Limits
from sshmap.model import Ending, Force, JobSpec, Maker, Receipt, RunId, Verb
from sshmap.store.endings import Endings
from sshmap.store.history import attempts_of
from sshmap.store.jobs import Jobs
from sshmap.store.keys import Keys, Row
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.outbox import Outbox
from sshmap.store.paces import Paces
from sshmap.store.task_ends import Usage
from sshmap.store.tasks import NewTask, Tasks

SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="ls"))
#: tables that grow with the data
LARGE = ("tasks", "attempts", "keys", "outbox", "fanouts", "jobs")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    root = Root(tmp_path / "root")
    root.create()
    with contextlib.closing(Ledger(root)) as opened:
        yield opened


@contextlib.contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """Collect what is executed, triggers included."""
    seen: list[str] = []
    ledger.db.set_trace_callback(seen.append)
    yield seen
    ledger.db.set_trace_callback(None)


def scans(ledger: Ledger, seen: list[str]) -> set[str]:
    """Return those of the statements that go through a large table from its beginning."""
    found = set()
    for statement in seen:
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            plan = [row[3] for row in ledger.db.execute(f"EXPLAIN QUERY PLAN {statement}")]
            if any(step.startswith(tuple(f"SCAN {table}" for table in LARGE)) for step in plan):
                found.add(statement)
    return found


def test_work_on_tasks_costs_the_same_however_many_there_are(ledger: Ledger) -> None:
    jobs, tasks, outbox = Jobs(ledger), Tasks(ledger), Outbox(ledger)
    with statements(ledger) as seen:
        run = jobs.open(SPEC, RunId("1"))
        with ledger.change():
            jobs.begin_queueing(run)
            new = [
                NewTask(output=f"out/{number}/", members=(f"in/{number}",), inputs=b"i" * 16) for number in range(20)
            ]
            tasks.enqueue(run, new)
            jobs.end_queueing(run, 0)
        assert tasks.any_of(run)
        assert tasks.backlog(10) == 10
        claimed = tasks.claim(0, 8, fanouts=True, run=run.seq) + tasks.claim(1, 4, fanouts=True)
        with ledger.change():
            assert tasks.owned(claimed) == claimed
            number = outbox.post(claimed[0].id, "h1", "out/0/x", 1, b"d" * 16, Receipt(b"m", b"i"), replaces=False)
            tasks.send({claimed[0].id: 1})
            tasks.finish({claimed[1].id: 1})
            tasks.fail(claimed[2].id, "CommandsFailed", "exit 1", 1)
            tasks.release([claimed[3].id])
        assert tasks.running_slots() == [0, 1]
        tasks.give_back(1)
        assert tasks.requeue([0]) == 4
        (parcel,) = outbox.parcels("h1", 10)
        assert parcel.id == number
        with ledger.change():
            outbox.take_out(outbox.held([parcel]))
            tasks.finish_sent([claimed[0].id])
        jobs.states(run)
        assert len(list(tasks.failed(run, 10))) == 1
        tasks.inputs_in_run(run, ["out/1/"])
        outbox.peers_waiting()
        outbox.fanouts(["out/1/"])
    assert seen
    assert not scans(ledger, seen)


def test_ending_and_looking_at_runs_costs_the_same_however_many_tasks_there_are(ledger: Ledger) -> None:
    jobs, tasks, endings, paces = Jobs(ledger), Tasks(ledger), Endings(ledger), Paces(ledger)
    usage = Usage(began=1.0, ran=1.0)
    with statements(ledger) as seen:
        run = jobs.open(SPEC, RunId("1"))
        jobs.begin(run, 1, "me@here", Limits(halt_failed=9, retries=1, jobs="9"))
        with ledger.change():
            tasks.enqueue(
                run, [NewTask(output=f"out/{number}/", members=(f"in/{number}",), inputs=b"i") for number in range(9)]
            )
            jobs.end_queueing(run, 0)
            tasks.refuse(run, NewTask(output="out/x/", members=("in/x",), inputs=b"i"), "LockHeld", "held")
        assert tasks.making_below(run, "out/") is False
        assert tasks.being_made(run, ["out/1/", "out/1/x"]) == {}
        one, two, three, *others = tasks.claim(0, 5, fanouts=True)
        with ledger.change():
            tasks.try_again(one.id, "CommandsFailed", "exit 1", 1, usage, pause=9.0)
            tasks.finish({two.id: 1}, {two.id: usage})
            tasks.pace(run.seq, [1.0])
            tasks.send({three.id: 1}, {three.id: usage})
        assert tasks.next_due() > 0
        assert len(tasks.late(run, time.time() + 9, 5)) == 2
        assert paces.median(run.seq)[0] == paces.mean(run.seq)[0] == 1
        endings.note_followed(run.seq)
        assert not endings.halt_unfollowed(run.seq, Limits(halt_failed=9))
        endings.cancel(run.id, Force.TERM)
        endings.owe(run.id, ("h1",))
        assert len(endings.owed()) == 1
        while endings.drop_queued() or endings.drop_sending():
            continue
        with ledger.change():
            for task in tasks.owned(others):
                tasks.cancel(task.id, usage)
        assert (endings.left(run.id), endings.force(run.seq), endings.reason(run.seq)) == (
            0,
            Force.TERM,
            Ending.CANCELLED,
        )
        assert jobs.is_over(run.seq)
        assert len(list(attempts_of(ledger, run.seq))) == 11
    assert not scans(ledger, seen)


def test_claiming_costs_the_same_however_many_tasks_wait(ledger: Ledger) -> None:
    """By what the statements read, as an index may be gone through from its beginning too."""
    jobs, tasks = Jobs(ledger), Tasks(ledger)

    def steps(many: int) -> int:
        run = jobs.open(msgspec.structs.replace(SPEC, outdir=f"sm://o{many}/"), RunId(f"{many}"))
        jobs.begin(run, 1, "me@here", Limits(jobs="1"))
        with ledger.change():
            tasks.enqueue(
                run, [NewTask(output=f"o{many}/{n}/", members=(f"in/{n}",), inputs=b"i") for n in range(many)]
            )
            jobs.end_queueing(run, 0)
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        ledger.db.set_progress_handler(count, 50)
        claimed = [*tasks.claim(0, 1, fanouts=True), *tasks.claim(1, 1, fanouts=True)]
        assert len(claimed) == 1
        tasks.backlog(1)
        tasks.next_due()
        tasks.late(run, 0.0, 5)
        ledger.db.set_progress_handler(None, 0)
        jobs.states(run)
        with ledger.change():
            tasks.cancel(claimed[0].id)
        Endings(ledger).cancel(run.id, Force.TERM)
        while Endings(ledger).drop_queued():
            continue
        return counted

    steps(10)
    assert steps(5000) < 2 * steps(20) + 10


def test_work_on_keys_costs_the_same_however_many_there_are(ledger: Ledger) -> None:
    keys = Keys(ledger)
    with statements(ledger) as seen:
        with ledger.change():
            keys.insert(Row("in/a", 1, b"d" * 16, 1, None), ("in/x",))
        assert keys.get("in/a")
        assert list(keys.rows(["in/a", "in/b"])) == ["in/a"]
        assert [*keys.names("in/"), *(entry.name for entry in keys.scan("in/"))] == ["in/a", "in/a"]
        assert keys.any_below("in")
        keys.receipts(["in/a"])
        keys.members_of("in/a")
        list(keys.level("in/"))
    assert not scans(ledger, seen)


def test_statement_that_goes_through_a_table_is_found(ledger: Ledger) -> None:
    assert scans(ledger, ["SELECT id FROM tasks WHERE state = 'queued'"])
