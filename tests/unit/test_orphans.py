"""Outputs whose inputs are gone: found by maker and lineage, on a ledger alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.session.orphans import Orphans
from sshmap.agent.shuffle import Holdings
from sshmap.model import JobSpec, Maker, Receipt, Verb
from sshmap.protocol.messages import OutputCount
from sshmap.store.commit import Store
from sshmap.store.keys import Row
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import digest_maker

INPUTS = b"i" * 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A host without keys."""
    root = Root(tmp_path / "root")
    root.create()
    with contextlib.closing(Store(root)) as opened:
        yield opened


def job(verb: Verb = Verb.MAP, indir: str = "sm://in/", command: str = "cat") -> JobSpec:
    return JobSpec(indir=indir, outdir="sm://out/", maker=Maker(verb=verb, command=command))


def add(store: Store, name: str, spec: JobSpec | None = None, *members: str) -> None:
    """Add a key: one that was copied in, or one that a job made of some inputs."""
    receipt = Receipt(digest_maker(spec.maker), INPUTS) if spec else None
    with store.ledger.change():
        store.keys.insert(Row(name, 1, b"d" * 16, 1_700_000_000, receipt), members)


def record(store: Store, name: str, spec: JobSpec, member: str, count: int = 1) -> None:
    """Note that a fan-out task has put files around the cluster."""
    with store.ledger.change():
        receipt = Receipt(digest_maker(spec.maker), INPUTS)
        Outbox(store.ledger).record_fanout(name, member, receipt, count, b"n" * 16)


def held(spec: JobSpec, output: str, count: int) -> Holdings:
    holdings = Holdings()
    holdings.add([OutputCount(output, Receipt(digest_maker(spec.maker), INPUTS), count, b"n" * 16)])
    return holdings


def test_output_is_an_orphan_when_its_input_is_gone(store: Store) -> None:
    spec = job()
    add(store, "in/a")
    add(store, "out/a", spec, "in/a")
    add(store, "out/b", spec, "in/b")
    assert list(Orphans(store, spec).names()) == ["out/b"]
    assert Orphans(store, spec).count(1, Holdings()) == 1


def test_nothing_is_looked_through_where_all_outputs_belong_to_inputs(store: Store) -> None:
    spec = job()
    add(store, "out/b", spec, "in/b")
    assert Orphans(store, spec).count(1, Holdings()) == 0


@pytest.mark.parametrize("other", [job(command="tac"), job(Verb.MERGE), None], ids=["command", "verb", "copied in"])
def test_what_other_work_made_is_no_orphan(store: Store, other: JobSpec | None) -> None:
    add(store, "out/b", other, *(["in/b"] if other else []))
    assert list(Orphans(store, job()).names()) == []


@pytest.mark.parametrize(
    ("indir", "found"), [("sm://in/", True), ("sm://in/*", True), ("sm://in/a*", False), ("sm://in/d/", False)]
)
def test_what_was_made_of_keys_elsewhere_is_no_orphan(store: Store, indir: str, *, found: bool) -> None:
    add(store, "out/b", job(), "in/b")
    assert list(Orphans(store, job(indir=indir)).names()) == ["out/b"] * found


def test_group_is_an_orphan_only_without_any_of_its_inputs(store: Store) -> None:
    spec = job(Verb.MERGE)
    add(store, "in/1/g")
    add(store, "out/g", spec, "in/1/g", "in/2/g")
    add(store, "out/h", spec, "in/1/h", "in/2/h")
    assert list(Orphans(store, spec).names()) == ["out/h"]


def test_orphans_are_removed_and_counted_with_their_bytes(store: Store) -> None:
    spec = job()
    for number in range(1200):
        add(store, f"out/{number:04}", spec, f"in/{number:04}")
    add(store, "in/0007")
    assert Orphans(store, spec).remove() == (1199, 1199)
    assert [row.name for row in store.keys.scan("")] == ["in/0007", "out/0007"]
    assert Orphans(store, spec).remove() == (0, 0)


def test_directory_of_a_fanout_is_an_orphan_by_its_record(store: Store) -> None:
    spec = job(Verb.FANOUT)
    add(store, "in/a")
    record(store, "out/a/", spec, "in/a")
    record(store, "out/b/", spec, "in/b")
    record(store, "out/c/", job(Verb.FANOUT, command="ls"), "in/c")
    record(store, "out/old/", spec, "")
    assert [output for output, _ in Orphans(store, spec).directories()] == ["out/b/"]


def test_fanouts_orphans_are_counted_by_what_all_hosts_hold(store: Store) -> None:
    spec = job(Verb.FANOUT)
    record(store, "out/b/", spec, "in/b", 3)
    assert Orphans(store, spec).count(0, held(spec, "out/b/", 2)) == 2
    assert Orphans(store, spec).count(0, Holdings()) == 0


def test_output_is_not_removed_if_its_input_is_back_by_then(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, orphans = job(), Orphans(store, job())
    add(store, "out/b", spec, "in/b")
    add(store, "out/c", spec, "in/c")
    found = list(orphans.names())
    monkeypatch.setattr(orphans, "names", lambda: iter(found))
    add(store, "in/b")
    add(store, "out/c", job(command="tac"), "in/c")
    assert orphans.remove() == (0, 0)
    assert [row.name for row in store.keys.scan("")] == ["in/b", "out/b", "out/c"]


def test_records_of_orphans_are_forgotten_and_no_others(store: Store) -> None:
    spec = job(Verb.FANOUT)
    add(store, "in/a")
    for number in range(600):
        record(store, f"out/{number}/", spec, f"in/{number}")
    record(store, "out/a/", spec, "in/a")
    Orphans(store, spec).forget()
    assert list(Orphans(store, spec).directories()) == []
    assert [*Outbox(store.ledger).fanouts(["out/a/", "out/7/"])] == ["out/a/"]
