"""Why a task is refused, and what to do about it; from a ledger as it is found."""

from __future__ import annotations

import msgspec
import pytest

from sshmap.agent.session.expand import Decision
from sshmap.agent.session.refusals import maker_difference, refusal
from sshmap.model import JobSpec, Maker, Receipt, Shipped, Verb
from sshmap.protocol.messages import Problem
from sshmap.store.receipts import digest_maker
from sshmap.store.tasks import NewTask
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench
INPUTS = b"i" * 16
TASK = NewTask(output="out/x", members=("in/x",), inputs=INPUTS)
ONE, TWO = Shipped(name="one.py", digest=b"1" * 16), Shipped(name="two.py", digest=b"2" * 16)


def made_by(bench: Bench, maker: Maker, inputs: bytes = INPUTS, *, known: bool = True) -> Receipt:
    """Return the receipt of what a maker made, which the ledger remembers or not."""
    if known:
        with bench.ledger.change():
            bench.store.keys.remember(maker)
    return Receipt(digest_maker(maker), inputs)


def refused(bench: Bench, rival: Receipt | None, spec: JobSpec = SPEC) -> Problem:
    return refusal(bench.store, spec, Decision(task=TASK, rival=rival, refused=True))


def test_key_that_no_job_made_is_said_to_be_so(bench: Bench) -> None:
    problem = refused(bench, None)
    assert problem.message == "sm://out/x exists and was made by other work: it was not made by a job"
    assert (problem.kind, problem.key) == ("OtherReceipt", "sm://out/x")
    assert "--keep-done" not in problem.hint
    assert "--replace" in problem.hint


def test_input_that_was_another_is_named(bench: Bench) -> None:
    problem = refused(bench, made_by(bench, SPEC.maker, b"o" * 16))
    assert problem.message.endswith("its input sm://in/x was another then")
    assert "--keep-done" not in problem.hint


def test_command_that_was_another_is_shown_with_this_one(bench: Bench) -> None:
    problem = refused(bench, made_by(bench, Maker(verb=Verb.MAP, command="tac")))
    assert problem.message.endswith("the command was 'tac', is 'cat'")
    assert problem.hint.startswith("keep what is there with --keep-done, swap it with --replace")


@pytest.mark.parametrize(
    ("maker", "inputs", "keep_done"),
    [
        (Maker(verb=Verb.MAP, command="tac"), b"o" * 16, False),
        (Maker(verb=Verb.MERGE, command="cat"), INPUTS, False),
        (Maker(verb=Verb.MAP, command="tac"), INPUTS, True),
    ],
    ids=["of other inputs", "of another verb", "with --keep-done already"],
)
def test_keeping_is_offered_only_where_it_would_keep(
    bench: Bench, maker: Maker, inputs: bytes, *, keep_done: bool
) -> None:
    spec = msgspec.structs.replace(SPEC, keep_done=keep_done)
    assert "--keep-done" not in refused(bench, made_by(bench, maker, inputs), spec).hint


def test_maker_that_is_not_known_is_said_to_be_so(bench: Bench) -> None:
    problem = refused(bench, made_by(bench, Maker(verb=Verb.MAP, command="tac"), known=False))
    assert "what made it is not known any more" in problem.message
    assert "--keep-done" not in problem.hint


def test_two_inputs_with_one_output_are_refused_by_name(bench: Bench) -> None:
    task = NewTask(output="out/x/", members=("in/d/x",), inputs=INPUTS)
    problem = refusal(bench.store, SPEC, Decision(task=task, refused=True, doubled=True))
    assert problem.kind == "Refused"
    assert problem.message == "two inputs would write to sm://out/x/, one of them sm://in/d/x"
    assert "base names" in problem.hint


def test_run_that_makes_the_key_is_named_with_what_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.begin("0", other("0"), 1)
    holder = bench.begin("1", other("1"), 1)
    submitted = next(row.submitted for row in bench.jobs.runs() if row.seq == holder.seq)
    monkeypatch.setattr("time.time", lambda: submitted + 75.4)
    problem = refusal(bench.store, SPEC, Decision(task=TASK, refused=True, holder=holder.seq))
    assert problem.kind == "LockHeld"
    assert problem.message == "sm://out/x is being made by run 2 (map sm://in/ sm://1/) since 75 s"
    assert problem.hint == "sshmap wait 2, or sshmap cancel 2, then run the command again"


def test_run_that_began_after_the_clock_was_set_back_has_no_age_below_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = bench.begin("1", other("1"), 1)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    problem = refusal(bench.store, SPEC, Decision(task=TASK, refused=True, holder=holder.seq))
    assert problem.message.endswith("since 0 s")


def maker(command: str = "cat", verb: Verb = Verb.MAP, *shipped: Shipped) -> Maker:
    return Maker(verb=verb, command=command, shipped=shipped)


@pytest.mark.parametrize(
    ("there", "now", "said"),
    [
        (None, maker(), "what made it is not known any more"),
        (maker(verb=Verb.FANOUT), maker(), "it was a fanout, this is a map"),
        (maker("a", Verb.MERGE), maker("b"), "it was a merge, this is a map"),
        (maker("a"), maker("b"), "the command was 'a', is 'b'"),
        (maker("it's\n"), maker("b"), """the command was "it's\\n", is 'b\'"""),
        (maker("cat", Verb.MAP, ONE), maker(), "the files shipped with it differ: one.py"),
        (maker(), maker("cat", Verb.MAP, TWO), "the files shipped with it differ: two.py"),
        (maker("cat", Verb.MAP, ONE), maker("cat", Verb.MAP, TWO), "the files shipped with it differ: one.py, two.py"),
        (
            maker("cat", Verb.MAP, ONE, TWO),
            maker("cat", Verb.MAP, msgspec.structs.replace(ONE, digest=b"3" * 16), TWO),
            "the files shipped with it differ: one.py",
        ),
        (
            maker("cat", Verb.MAP, ONE),
            maker("cat", Verb.MAP, msgspec.structs.replace(ONE, executable=True)),
            "the files shipped with it differ: one.py",
        ),
    ],
)
def test_first_thing_that_differs_is_said(there: Maker | None, now: Maker, said: str) -> None:
    assert maker_difference(there, now) == said


def test_long_commands_are_shown_by_their_beginnings() -> None:
    said = maker_difference(maker("x" * 10_000), maker("y" * 10_000))
    assert len(said) < 500
