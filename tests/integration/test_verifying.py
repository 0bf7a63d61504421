"""Reading keys finds every kind of damage, and calls nothing damaged that is whole, whatever happens to it meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap.agent.session.verifying import serve_verify
from sshmap.errors import DigestMismatch, HostNotReady, NoSpace
from sshmap.model import Damage
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.messages import Served, Verified, Verify
from sshmap.store.commit import Staged, Store
from sshmap.store.damages import Damages
from sshmap.store.digest import digest_of
from sshmap.store.integrity import Found, Step, read_keys
from sshmap.store.layout import Root
from sshmap.store.seal import seal
from tests.conftest import files_below
from tests.integration.damages import DAMAGES, flip
from tests.unit.streams import MemoryStream

CONTENT = b"content" * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A host with three keys."""
    root = Root(tmp_path / "root")
    root.create()
    with contextlib.closing(Store(root)) as opened:
        for name in ("b/1", "b/2", "c/d/3"):
            put(opened, name, CONTENT)
        yield opened


def put(store: Store, name: str, content: bytes, *, replace: bool = False) -> None:
    """Make a key as a session does."""
    path = store.root.tmp / "fresh"
    path.write_bytes(content)
    with path.open("rb") as file:
        sealed = seal(file.fileno())
    item = Staged(
        path=str(path), name=name, size=len(content), digest=digest_of(content), sealed=sealed, replace=replace
    )
    store.prepare([item])
    with store.committing():
        store.commit(item)
        store.ledger.bump()


def file_of(store: Store, name: str) -> Path:
    return store.root.data / name


def found_in(steps: Iterator[Step]) -> list[Damage]:
    return [step.found.damage for step in steps if step.found]


def found_one(store: Store) -> Found:
    (found,) = [step.found for step in read_keys(store, "") if step.found]
    return found


def names_of(store: Store) -> list[str]:
    return [entry.name for entry in store.keys.scan("")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_damage_is_found_whatever_the_seal_says(store: Store, damage: Callable[[Path], None]) -> None:
    damage(file_of(store, "b/2"))
    (found,) = found_in(read_keys(store, ""))
    assert (found.name, found.size) == ("b/2", len(CONTENT))
    assert found.missing == (not file_of(store, "b/2").is_file() or file_of(store, "b/2").is_symlink())
    assert found_in(read_keys(store, "c/")) == found_in(read_keys(store, "", "b/2")) == []


def test_whole_keys_are_read_in_pieces_and_in_order(store: Store) -> None:
    steps = list(read_keys(store, "", piece=1000))
    assert [step.name for step in steps if step.ended] == ["b/1", "b/2", "c/d/3"]
    assert {step.size for step in steps if not step.ended} == {1000}
    assert sum(step.size for step in steps) == 3 * len(CONTENT)
    assert all(step.read for step in steps if step.ended)


def test_key_with_another_file_of_the_same_content_is_whole(store: Store) -> None:
    """As a restored backup leaves it: the seal is broken, the content is right."""
    path = file_of(store, "b/1")
    path.unlink()
    path.write_bytes(CONTENT)
    assert found_in(read_keys(store, "")) == []


def test_key_that_is_deleted_while_it_is_read_is_not_called_damaged(store: Store) -> None:
    steps = read_keys(store, "", piece=1000)
    assert next(steps).name == "b/1"
    flip(file_of(store, "b/1"))
    store.remove("b/")
    rest = list(steps)
    assert found_in(iter(rest)) == []
    assert [step.name for step in rest if step.read] == ["c/d/3"]


def test_key_that_is_swapped_while_it_is_read_is_read_anew(store: Store) -> None:
    steps = read_keys(store, "", piece=1000)
    next(steps)
    flip(file_of(store, "b/1"))
    put(store, "b/1", CONTENT[::-1], replace=True)
    rest = list(steps)
    assert found_in(iter(rest)) == []
    assert [step.name for step in rest if step.read] == ["b/1", "b/2", "c/d/3"]


def test_file_that_the_disk_cannot_read_is_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_reads(store, monkeypatch, errno.EIO)
    assert [found.name for found in found_in(read_keys(store, "b/"))] == ["b/1", "b/2"]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE])
def test_what_the_process_lacks_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    failing_reads(store, monkeypatch, number)
    with pytest.raises(HostNotReady, match="sm://b/1 cannot be read now"):
        list(read_keys(store, ""))


def test_file_that_cannot_be_opened_for_want_of_descriptors_is_not_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> int:
        raise DigestMismatch("missing") from OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(store.files, "open", refuse)
    with pytest.raises(HostNotReady):
        list(read_keys(store, ""))


def failing_reads(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the system fail to read files."""

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", fail)


def test_file_is_put_aside_with_content_and_mode_and_its_key_is_gone(store: Store) -> None:
    path = file_of(store, "c/d/3")
    flip(path)
    content, mode, before = path.read_bytes(), path.stat().st_mode, store.ledger.generation()
    found = found_one(store)
    where = store.put_aside(found.row, found.seal)
    assert where is not None
    assert where.startswith("quarantine/c/d/3.")
    aside = store.root.path / where
    assert (aside.read_bytes(), aside.stat().st_mode) == (content, mode)
    assert (names_of(store), store.ledger.generation() == before) == (["b/1", "b/2"], False)
    assert not (store.root.data / "c").exists()
    assert (store.root.quarantine.stat().st_mode & 0o777) == 0o700
    put(store, "c/d/3", CONTENT)
    assert found_in(read_keys(store, "")) == []


def test_key_without_a_file_is_only_forgotten(store: Store) -> None:
    file_of(store, "b/1").unlink()
    found = found_one(store)
    assert store.put_aside(found.row, found.seal) == ""
    assert (names_of(store), store.root.quarantine.exists()) == (["b/2", "c/d/3"], False)


def test_what_is_no_plain_file_is_put_aside_as_it_is(store: Store, tmp_path: Path) -> None:
    path = file_of(store, "b/1")
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    found = found_one(store)
    where = store.put_aside(found.row, found.seal)
    assert where
    assert (store.root.path / where).readlink() == tmp_path / "nowhere"


@pytest.mark.parametrize("mended", [True, False], ids=["mended", "changed again"])
def test_key_that_was_mended_or_changed_since_is_left(store: Store, *, mended: bool) -> None:
    path = file_of(store, "b/1")
    flip(path)
    found = found_one(store)
    if mended:
        put(store, "b/1", CONTENT)
    else:
        path.unlink()
        path.write_bytes(b"by hand")
    assert store.put_aside(found.row, found.seal) is None
    assert (names_of(store)[0], path.exists(), store.root.quarantine.exists()) == ("b/1", True, False)


def test_file_that_cannot_be_put_aside_stays_a_damaged_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(file_of(store, "b/1"))
    found = found_one(store)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(NoSpace, match="quarantine"):
            store.put_aside(found.row, found.seal)
    assert found_one(store) == found
    assert store.put_aside(found.row, found.seal)


def test_disk_that_is_full_after_the_move_does_not_keep_the_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(file_of(store, "b/1"))
    found, discard, tries = found_one(store), store.keys.discard, 0

    def fail_once(prefix: str, *, exact: bool = False) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise NoSpace("full")
        discard(prefix, exact=exact)

    monkeypatch.setattr(store.keys, "discard", fail_once)
    where = store.put_aside(found.row, found.seal)
    assert where
    assert (store.root.path / where).exists()
    assert names_of(store) == ["b/2", "c/d/3"]


def test_process_that_dies_after_the_move_leaves_a_key_without_its_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(file_of(store, "b/1"))
    found = found_one(store)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.keys, "discard", die)
        with pytest.raises(KeyboardInterrupt):
            store.put_aside(found.row, found.seal)
    assert found_one(store).damage == Damage("b/1", len(CONTENT), missing=True)
    assert len(files_below(store.root.quarantine)) == 1


def test_notes_of_damage_hold_until_the_key_is_another_or_found_whole(store: Store) -> None:
    damages = Damages(store.ledger)
    for name in ("b/1", "b/2"):
        flip(file_of(store, name))
    found = [step.found for step in read_keys(store, "") if step.found]
    damages.settle("", "", "c/d/3", found)
    assert (damages.count(), damages.first()) == (2, "b/1")
    put(store, "b/1", CONTENT)
    assert (damages.count(), damages.first()) == (1, "b/2")
    flip(file_of(store, "b/2"))
    damages.settle("c/", "", "c/d/3", [])
    assert damages.count() == 1
    damages.settle("b/", "", "b/2", [])
    assert (damages.count(), damages.first()) == (0, "")
    damages.settle("", "", "c/d/3", found)
    store.remove("b/")
    assert damages.count() == 0


def test_answers_follow_what_was_read_before(store: Store) -> None:
    """As after a break: what a former conversation has read is neither read nor counted again."""
    stream = MemoryStream()
    serve_verify(store, Verify(prefix="", after="b/1"), FrameReader(stream), FrameWriter(stream))
    reader = FrameReader(MemoryStream(bytes(stream.sent)))
    assert reader.read() == Verified(name="c/d/3", keys=2, size=2 * len(CONTENT))
    assert reader.read() == Served(count=2)
