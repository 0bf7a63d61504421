"""Open files instead of their content: only between two sides that a Unix socket connects."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.session import incoming
from sshmap.protocol.messages import End, Handed, Problem, Put, PutResult
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root
from sshmap.transport.session import Session
from sshmap.transport.unix import UnixChannel
from tests.conftest import files_below
from tests.contract.conftest import Dial
from tests.contract.talk import HELLO, get, problem_of, put, results

CONTENT = b"content " * 20_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    path.chmod(0o444)
    return path


@pytest.fixture
def handing(dial_memory: Dial, root: Root) -> Iterator[Session]:
    """A session over the transport that can hand files over."""
    with contextlib.closing(Session(dial_memory(root.path), HELLO)) as session:
        yield session


def hand(session: Session, path: Path, name: str = "b/k", content: bytes = CONTENT) -> bool:
    """Announce a key and hand its file over; say whether that was possible."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        session.writer.message(Put(name=name), flush=False)
        handed = Handed(size=len(content), digest=digest_of(content))
        return session.writer.message_by(handed, lambda frame: session.channel.hand(frame, fd))
    finally:
        os.close(fd)


def hand_one(session: Session, path: Path, name: str = "b/k", content: bytes = CONTENT) -> PutResult:
    assert hand(session, path, name, content)
    (result,) = results(session)
    return result


def left_in(root: Root) -> list[Path]:
    return files_below(root.tmp)


def test_transport_that_cannot_hand_files_over_sends_nothing_and_goes_on(session: Session, source: Path) -> None:
    if isinstance(session.channel, UnixChannel):
        assert hand(session, source)
    else:
        fd = os.open(source, os.O_RDONLY)
        assert not session.channel.hand(b"frame", fd)
        os.close(fd)
        assert put(session, "b/k", CONTENT).fresh
    results(session)
    assert get(session, "b/k") == CONTENT


def test_what_was_gathered_is_sent_once_where_a_file_cannot_be_handed_over(
    session: Session, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where too many files of the user are on their way: its Put is sent with the content that follows instead."""
    monkeypatch.setattr(session.channel, "hand", lambda frame, fd: False)
    assert not hand(session, source)
    session.writer.data(CONTENT)
    session.writer.message(End(size=len(CONTENT), digest=digest_of(CONTENT)), flush=False)
    assert [(result.name, result.fresh) for result in results(session)] == [("b/k", True)]
    assert get(session, "b/k") == CONTENT


def test_sealed_file_becomes_the_key_itself(handing: Session, source: Path, root: Root) -> None:
    assert hand_one(handing, source).fresh
    assert (root.data / "b" / "k").samefile(source)
    assert get(handing, "b/k") == CONTENT


def test_file_that_can_be_written_to_is_copied(handing: Session, source: Path, root: Root) -> None:
    source.chmod(0o644)
    assert hand_one(handing, source).fresh
    source.write_bytes(b"changed")
    assert get(handing, "b/k") == CONTENT
    assert (root.data / "b" / "k").stat().st_mode & 0o777 == 0o444


def test_many_files_arrive_in_their_order(handing: Session, tmp_path: Path) -> None:
    contents = {f"b/k{number}": b"%d" % number for number in range(300)}
    for name, content in contents.items():
        path = tmp_path / name.replace("/", "_")
        path.write_bytes(content)
        assert hand(handing, path, name, content)
    assert [result.name for result in results(handing) if result.fresh] == list(contents)
    assert all(get(handing, name) == content for name, content in contents.items())


def test_file_of_other_content_than_announced_is_refused_and_leaves_nothing(
    handing: Session, source: Path, root: Root
) -> None:
    assert problem_of(hand_one(handing, source, content=b"other")) == "DigestMismatch"
    assert left_in(root) == []
    assert put(handing, "b/k", b"content").fresh


def test_disk_that_refuses_in_the_end_costs_one_key_and_not_the_session(
    handing: Session, monkeypatch: pytest.MonkeyPatch, root: Root
) -> None:
    def full(_: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(incoming, "seal", full)
        result = put(handing, "b/k", CONTENT)
    assert problem_of(result) == "NoSpace"
    assert left_in(root) == []
    assert problem_of(put(handing, "b/k", CONTENT)) == ""


def test_file_with_a_bad_name_is_refused_and_the_next_is_not_taken_for_it(handing: Session, source: Path) -> None:
    assert hand(handing, source, "b/../k")
    assert hand(handing, source, "b/k")
    assert [problem_of(result) for result in results(handing)] == ["InvalidKey", ""]


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_plain_file_is_refused(handing: Session, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    assert problem_of(hand_one(handing, path))
    assert put(handing, "b/k", b"content").fresh


def test_announced_file_that_does_not_come_ends_the_session(session: Session, root: Root) -> None:
    session.writer.message(Put(name="b/k"), flush=False)
    session.writer.message(Handed(size=1, digest=digest_of(b"x")))
    answer = session.frame()
    assert isinstance(answer, Problem)
    assert (answer.kind, "file was announced" in answer.message) == ("ProtocolError", True)
    assert not (root.data / "b").exists()
