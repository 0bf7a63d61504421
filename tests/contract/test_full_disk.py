"""A disk that has no space or no inode left: what cannot be stored is refused one by one, and the session stays in step."""

from __future__ import annotations

import contextlib
import errno
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap.agent.session import incoming
from sshmap.errors import NoSpace, SshmapError
from sshmap.model import Shipped
from sshmap.protocol.messages import NeedPackages, Ping, Served, Ship, Synced, Wanted
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.packages import digest_packages, packages_path
from sshmap.transport.session import Session
from tests import wheelhouse
from tests.contract.conftest import Dial
from tests.contract.talk import HELLO, announce, get, get_all, problem_of, put, results, send_content

LONG = b"content " * 100_000


@pytest.fixture
def session(dial_memory: Dial, root: Root) -> Iterator[Session]:
    """A session with an agent in this process, whose system calls can be made to fail."""
    with contextlib.closing(Session(dial_memory(root.path), HELLO)) as session:
        yield session


#: system calls that need space or an inode, and where
CALLS: dict[str, Callable[[Root, object], bool]] = {
    "mkdir": lambda root, path: str(path).startswith(f"{root.tmp}/") or path == "b",
    "open": lambda root, path: str(path).startswith(f"{root.tmp}/"),
    "write": lambda root, path: True,
    "utime": lambda root, path: True,
    "rename": lambda root, path: True,
}


@contextlib.contextmanager
def refusing(name: str, root: Root, number: int) -> Iterator[None]:
    """Have a system call fail where it would take some of the disk."""
    call, concerns = getattr(os, name), CALLS[name]

    def fails(*args: object, **kwargs: object) -> object:
        if concerns(root, args[0]):
            raise OSError(number, os.strerror(number))
        return call(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, fails)
        yield


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["space", "quota"])
@pytest.mark.parametrize("content", [b"", b"short", LONG], ids=["empty", "short", "long"])
@pytest.mark.parametrize("call", ["mkdir", "open", "utime", "rename"])
def test_put_is_refused_and_the_session_stays_in_step(
    session: Session, root: Root, call: str, number: int, content: bytes
) -> None:
    with refusing(call, root, number):
        for name in ("b/1", "b/2"):
            announce(session, name, content)
        assert [problem_of(result) for result in results(session)] == ["NoSpace", "NoSpace"]
    assert get_all(session, "b/") == {}
    assert put(session, "b/1", content).fresh
    assert get(session, "b/1") == content


def test_put_whose_content_does_not_fit_is_refused_and_the_session_stays_in_step(session: Session, root: Root) -> None:
    with refusing("write", root, errno.ENOSPC):
        announce(session, "b/1", LONG)
        announce(session, "b/2", b"")
        assert [problem_of(result) for result in results(session)] == ["NoSpace", ""]
    assert get_all(session, "b/") == {"b/2": b""}


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "utime"])
def test_shipped_file_is_refused_and_the_session_stays_in_step(session: Session, root: Root, call: str) -> None:
    file = Shipped(name="script.py", digest=digest_of(LONG))
    with refusing(call, root, errno.ENOSPC):
        assert session.ask(Ship(file=file), Wanted).wanted
        send_content(session, LONG)
        session.writer.flush()
        with pytest.raises(NoSpace):
            session.next()
    assert session.ask(Ping(), Served) == Served()
    ship(session, file)
    assert (root.shipped / file.digest.hex()).read_bytes() == LONG


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "rename"])
def test_packages_that_do_not_fit_leave_no_half_of_them(
    session: Session, root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    wheelhouse.add_wheel(tmp_path, "aside", {"aside/__init__.py": "", "aside/more.py": "#" * 1000})
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "aside-1.0-py3-none-any.whl", "aside-1.0-py3-none-any.whl")
    content, requirements = (tmp_path / "tar").read_bytes(), digest_packages(("aside",))
    request = Ship(file=Shipped(name="tar", digest=digest_of(content)), packages=requirements)

    def send() -> None:
        assert session.ask(NeedPackages(requirements=requirements), Wanted).wanted
        assert session.ask(request, Wanted).wanted
        send_content(session, content)
        session.writer.flush()

    with refusing(call, root, errno.ENOSPC):
        send()
        with pytest.raises(NoSpace):
            session.next()
    # also while it is unpacked
    with monkeypatch.context() as patch:
        patch.setattr("sshmap.store.packages.FLOOR", 1 << 60)
        patch.setattr("sshmap.store.packages.FLOOR_SHARE", 1.0)
        send()
        with pytest.raises(NoSpace):
            session.next()
    send()
    assert session.next() == Synced()
    assert not session.ask(NeedPackages(requirements=requirements), Wanted).wanted
    assert (packages_path(root, requirements) / "aside/more.py").read_text() == "#" * 1000


def ship(session: Session, file: Shipped) -> None:
    """Ship a file that is wanted."""
    assert session.ask(Ship(file=file), Wanted).wanted
    send_content(session, LONG)
    session.writer.flush()
    assert session.next() == Synced()


def test_damaged_shipped_file_leaves_the_session_in_step(session: Session, root: Root) -> None:
    file = Shipped(name="script.py", digest=digest_of(LONG))
    for _ in range(2):
        assert session.ask(Ship(file=file), Wanted).wanted
        send_content(session, b"damaged")
        session.writer.flush()
        with pytest.raises(SshmapError, match="damaged"):
            session.next()
    ship(session, file)
    assert not session.ask(Ship(file=file), Wanted).wanted


def test_two_clients_that_ship_one_file_at_once_both_succeed(session: Session, dial_memory: Dial, root: Root) -> None:
    file = Shipped(name="script.py", digest=digest_of(LONG))
    with contextlib.closing(Session(dial_memory(root.path), HELLO)) as other:
        assert session.ask(Ship(file=file), Wanted).wanted
        ship(other, file)
        send_content(session, LONG)
        session.writer.flush()
        assert session.next() == Synced()
    assert session.ask(Ping(), Served) == Served()
    assert (root.shipped / file.digest.hex()).read_bytes() == LONG


def test_file_that_comes_while_another_client_is_asked_for_it_is_taken_from_both(
    session: Session, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the answer and the content."""
    file = Shipped(name="script.py", digest=digest_of(LONG))
    path = root.shipped / file.digest.hex()
    exists = Path.exists

    def comes_after_the_first_look(self: Path) -> bool:
        there = exists(self)
        if self == path and not there:
            path.write_bytes(LONG)
        return there

    monkeypatch.setattr(Path, "exists", comes_after_the_first_look)
    ship(session, file)
    assert session.ask(Ping(), Served) == Served()


def test_commit_that_fails_as_a_whole_refuses_each_key_of_it(
    session: Session, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client counts the answers: one for each Put, whatever happens."""

    def full(_: Ledger) -> None:
        raise NoSpace("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "bump", full)
        for name in ("b/1", "b//bad", "b/2"):
            announce(session, name, b"content")
        assert [problem_of(result) for result in results(session)] == ["NoSpace", "InvalidKey", "NoSpace"]
    assert put(session, "b/1", b"content").fresh
    assert get_all(session, "b/") == {"b/1": b"content"}


def test_nothing_that_is_sent_takes_the_last_free_space(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs("/")
    monkeypatch.setattr(incoming, "FLOOR", disk.f_blocks * disk.f_frsize)
    monkeypatch.setattr(incoming, "FLOOR_SHARE", 1.0)
    assert problem_of(put(session, "b/k", LONG)) == "NoSpace"
    monkeypatch.undo()
    assert put(session, "b/k", LONG).fresh
