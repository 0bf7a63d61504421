"""A copy onto a key whose file is missing or damaged mends it, and says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap.model import JobSpec, Maker, Receipt, Verb
from sshmap.protocol.messages import Open, Opened, Put
from sshmap.store import contents
from sshmap.store.commit import Store
from sshmap.store.layout import Root
from sshmap.store.receipts import digest_maker
from sshmap.store.seal import Seal
from sshmap.transport.session import Session
from tests.contract.conftest import Dial
from tests.contract.talk import HELLO, announce, get, ls, problem_of, put, results, send_content
from tests.integration.damages import DAMAGES

CONTENT = b"content" * 1000


@pytest.fixture
def session(dial_memory: Dial, root: Root) -> Iterator[Session]:
    with contextlib.closing(Session(dial_memory(root.path), HELLO)) as session:
        put(session, "b/d/k", CONTENT)
        yield session


@pytest.fixture
def path(session: Session, root: Root) -> Path:
    return root.data / "b/d/k"


def every_damage() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))


@every_damage()
def test_equal_content_repairs_a_damaged_key(session: Session, path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    result = put(session, "b/d/k", CONTENT)
    assert (result.problem, result.fresh, result.repaired) == (None, False, True)
    assert get(session, "b/d/k") == path.read_bytes() == CONTENT
    again = put(session, "b/d/k", CONTENT)
    assert (again.fresh, again.repaired) == (False, False)


@every_damage()
def test_other_content_does_not_repair_a_damaged_key(
    session: Session, path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    result = put(session, "b/d/k", b"other")
    assert problem_of(result) == "KeyExists"
    assert result.problem is not None
    assert "its file here is damaged" in result.problem.message


def test_key_with_its_whole_directory_gone_is_repaired(session: Session, path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    assert put(session, "b/d/k", CONTENT).repaired
    assert get(session, "b/d/k") == CONTENT


def test_one_of_two_copies_at_once_repairs(session: Session, path: Path) -> None:
    path.unlink()
    for _ in range(2):
        announce(session, "b/d/k", CONTENT)
    assert [result.repaired for result in results(session)] == [True, False]


def test_healthy_key_is_taken_as_such_without_being_read(
    session: Session, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: int) -> None:
        raise AssertionError("the key was read")

    monkeypatch.setattr(contents, "digest_fd", read)
    before = path.stat()
    result = put(session, "b/d/k", CONTENT)
    assert (result.problem, result.fresh, result.repaired) == (None, False, False)
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("touch", [lambda path: path.chmod(0o600), lambda path: path.touch()], ids=["mode", "time"])
def test_key_whose_seal_is_broken_without_harm_is_kept(
    session: Session, path: Path, touch: Callable[[Path], None]
) -> None:
    touch(path)
    result = put(session, "b/d/k", CONTENT)
    assert (result.problem, result.fresh, result.repaired) == (None, False, False)


def test_repaired_key_is_sealed_and_listed_anew(session: Session, path: Path, root: Root) -> None:
    _, before = ls(session)
    path.unlink()
    put(session, "b/d/k", CONTENT)
    assert ls(session, known=before.generation)[1].unchanged is False
    store = Store(root)
    with contextlib.closing(store):
        row = store.keys.get("b/d/k")
    assert row is not None
    assert Seal.of(path.stat()) == row.seal


def test_repair_keeps_the_receipt_and_the_names_of_the_inputs(session: Session, root: Root) -> None:
    maker = Maker(verb=Verb.FANOUT, command="cat")
    session.ask(Open(job=JobSpec(indir="sm://in/", outdir="sm://b/", maker=maker), run="1"), Opened)
    receipt = Receipt(digest_maker(maker), b"i" * 16)
    session.writer.message(Put(name="b/a/made", receipt=receipt, members=("in/a",), source="h0"), flush=False)
    send_content(session, CONTENT)
    assert results(session)[0].fresh
    (root.data / "b/a/made").unlink()
    assert put(session, "b/a/made", CONTENT).repaired
    store = Store(root)
    with contextlib.closing(store):
        row = store.keys.get("b/a/made")
        assert store.keys.members_of("b/a/made") == ("in/a",)
    assert row is not None
    assert row.receipt == receipt
