"""What is said about a job before it is run: of each task what would be done, and why; from a real ledger."""

from __future__ import annotations

import msgspec
import pytest

from sshmap.agent.session.explaining import Explaining
from sshmap.agent.shuffle import Holdings
from sshmap.model import JobSpec, Maker, Receipt, Verb
from sshmap.protocol import messages as m
from sshmap.store.keys import Row
from sshmap.store.layout import ClusterFile
from sshmap.store.receipts import digest_inputs, digest_maker
from sshmap.store.tasks import NewTask, Task
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench
DIGEST = b"d" * 16
REPLACING = msgspec.structs.replace(SPEC, replace=True)
TAC = Maker(verb=Verb.MAP, command="tac")


@pytest.fixture(autouse=True)
def described(bench: Bench) -> None:
    """The host is one that a client with two workers has described."""
    root = bench.store.root
    root.write_cluster(ClusterFile(root_id="r", host="h0", ring=(("h0", 1.0),), fingerprint="f", workers=2))


def add(bench: Bench, name: str, size: int = 1, receipt: Receipt | None = None) -> None:
    """Add a key, or change what it is."""
    with bench.ledger.change():
        bench.ledger.db.execute("DELETE FROM keys WHERE name = ?", (name,))
        bench.store.keys.insert(Row(name, size, DIGEST, 1_700_000_000, receipt), ("in/x",) if receipt else ())


def made(bench: Bench, name: str, maker: Maker = SPEC.maker, digest: bytes = DIGEST) -> None:
    """Add an output that a maker made of the input of the same name."""
    with bench.ledger.change():
        bench.store.keys.remember(maker)
    add(bench, f"out/{name}", 1, Receipt(digest_maker(maker), digest_inputs([(f"in/{name}", digest)])))


def reasons(bench: Bench, spec: JobSpec = SPEC) -> list[tuple[str, str, str]]:
    """Return of each task its output, what would be done, and why."""
    rows = Explaining(bench.store, spec, Holdings()).reasons()
    return [(row.output.removeprefix(spec.outdir), row.decision, row.why) for row in rows]


def worked(bench: Bench, *names: str) -> list[Task]:
    """Have a run of the job that has claimed the tasks of some inputs."""
    run = bench.open("before")
    with bench.ledger.change():
        bench.jobs.begin_queueing(run)
        inputs = digest_inputs([("in/x", DIGEST)])
        bench.tasks.enqueue(
            run, [NewTask(output=f"out/{name}", members=(f"in/{name}",), inputs=inputs) for name in names]
        )
        bench.jobs.end_queueing(run, 0)
    return bench.claim(len(names))


def test_task_without_a_past_is_new(bench: Bench) -> None:
    add(bench, "in/x")
    assert reasons(bench) == [("x", "run", "new")]


def test_output_that_is_there_is_kept(bench: Bench) -> None:
    add(bench, "in/x")
    made(bench, "x")
    assert reasons(bench) == reasons(bench, REPLACING) == [("x", "keep", "its output is there")]


def test_output_of_an_input_that_changed_is_refused_or_made_again(bench: Bench) -> None:
    add(bench, "in/x")
    made(bench, "x", digest=b"o" * 16)
    why = "it exists and was made by other work: its input sm://in/x was another then"
    assert reasons(bench) == [("x", "refuse", why)]
    assert reasons(bench, REPLACING) == [("x", "run", "input changed")]


def test_output_of_another_command_is_refused_or_made_again_and_the_difference_is_said(bench: Bench) -> None:
    add(bench, "in/x")
    made(bench, "x", TAC)
    (refused,) = reasons(bench)
    assert refused == ("x", "refuse", "it exists and was made by other work: the command was 'tac', is 'cat'")
    assert reasons(bench, REPLACING) == [("x", "run", "command changed: the command was 'tac', is 'cat'")]


def test_output_of_another_command_is_kept_where_that_is_wanted(bench: Bench) -> None:
    add(bench, "in/x")
    made(bench, "x", TAC)
    keeping = msgspec.structs.replace(SPEC, keep_done=True)
    assert reasons(bench, keeping) == [("x", "keep", "its output is there")]


def test_key_that_was_copied_in_is_refused_or_said_to_go(bench: Bench) -> None:
    add(bench, "in/x")
    add(bench, "out/x")
    assert [row[1] for row in reasons(bench)] == ["refuse"]
    assert reasons(bench, REPLACING) == [("x", "run", "what is there was not made by a job")]


def test_output_that_was_made_and_is_gone_is_missing(bench: Bench) -> None:
    add(bench, "in/x")
    bench.end(*worked(bench, "x"))
    assert reasons(bench) == [("x", "run", "output missing")]


def test_task_that_failed_is_said_to_have_failed(bench: Bench) -> None:
    add(bench, "in/x")
    bench.end(*worked(bench, "x"), fails=True)
    assert reasons(bench) == [("x", "run", "failed before")]


def test_cancelled_task_is_said_to_have_been_cancelled(bench: Bench) -> None:
    add(bench, "in/x")
    (task,) = worked(bench, "x")
    with bench.ledger.change():
        bench.tasks.cancel(task.id)
    assert reasons(bench) == [("x", "run", "cancelled before")]


def test_newest_run_tells_what_came_before(bench: Bench) -> None:
    add(bench, "in/x")
    bench.end(*worked(bench, "x"), fails=True)
    run = bench.open("later")
    bench.queue(run, "out/x")
    bench.end(*bench.claim())
    assert reasons(bench) == [("x", "run", "output missing")]


def test_key_that_another_run_makes_is_refused_by_its_number(bench: Bench) -> None:
    add(bench, "in/x")
    holder = bench.open("holder", msgspec.structs.replace(SPEC, maker=TAC))
    bench.queue(holder, "out/x")
    ((_, decision, why),) = reasons(bench)
    assert (decision, why.startswith("it is being made by run 1 (map sm://in/ sm://out/)")) == ("refuse", True)


def test_each_task_has_its_own_reason(bench: Bench) -> None:
    for name in "abcd":
        add(bench, f"in/{name}")
    made(bench, "b")
    made(bench, "c", TAC)
    assert [row[:2] for row in reasons(bench)] == [("a", "run"), ("b", "keep"), ("c", "refuse"), ("d", "run")]


def test_nothing_is_changed_by_explaining(bench: Bench) -> None:
    for name in "abc":
        add(bench, f"in/{name}")
    made(bench, "b")
    before = list(bench.ledger.db.iterdump())
    explaining = Explaining(bench.store, SPEC, Holdings())
    list(explaining.reasons())
    explaining.explained()
    assert list(bench.ledger.db.iterdump()) == before


def test_sizes_are_those_of_the_inputs(bench: Bench) -> None:
    for name, size in (("in/1/g", 10), ("in/2/g", 5), ("in/1/h", 7)):
        add(bench, name, size)
    merge = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MERGE, command="xargs cat"))
    rows = Explaining(bench.store, merge, Holdings()).reasons()
    assert [(row.output, row.size) for row in rows] == [("sm://out/g", 15), ("sm://out/h", 7)]
    assert [row.size for row in Explaining(bench.store, SPEC, Holdings()).reasons()] == [10, 7, 5]


def test_job_without_inputs_has_no_tasks(bench: Bench) -> None:
    assert reasons(bench) == []


def explained(bench: Bench, spec: JobSpec = SPEC) -> m.Explained:
    explaining = Explaining(bench.store, spec, Holdings())
    list(explaining.reasons())
    return explaining.explained()


def test_time_is_estimated_from_the_last_run_of_the_same_command(bench: Bench) -> None:
    """Of the tasks that would be run, on so many workers as there are."""
    for name in "abcdef":
        add(bench, f"in/{name}")
    made(bench, "a")
    made(bench, "b", TAC)
    elsewhere = bench.open("1", msgspec.structs.replace(SPEC, outdir="sm://elsewhere/"))
    with bench.ledger.change():
        bench.tasks.pace(elsewhere.seq, [10.0, 10.0])
    assert explained(bench).seconds == pytest.approx(4 * 10 / 2, rel=0.1)
    later = bench.open("2", msgspec.structs.replace(SPEC, outdir="sm://later/"))
    assert explained(bench).seconds == pytest.approx(20, rel=0.1)
    with bench.ledger.change():
        bench.tasks.pace(later.seq, [1.0])
    assert explained(bench).seconds == pytest.approx(2, rel=0.1)


def test_time_of_another_command_is_no_estimate(bench: Bench) -> None:
    add(bench, "in/x")
    run = bench.open("1", other("tac"))
    with bench.ledger.change():
        bench.tasks.pace(run.seq, [10.0])
    assert explained(bench).seconds == 0


def test_room_on_the_disk_is_told(bench: Bench) -> None:
    assert explained(bench).free > 0


def test_fanout_is_explained_by_its_directories(bench: Bench) -> None:
    fanout = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.FANOUT, command="ls"))
    for name in ("in/1/x", "in/2/x", "in/y"):
        add(bench, name, 3)
    rows = list(Explaining(bench.store, fanout, Holdings()).reasons())
    assert [(row.output, row.decision) for row in rows] == [
        ("sm://out/x/", "run"), ("sm://out/x/", "refuse"), ("sm://out/y/", "run"),
    ]  # fmt: skip
    assert rows[1].why == "two inputs would write to sm://out/x/, one of them sm://in/2/x"
