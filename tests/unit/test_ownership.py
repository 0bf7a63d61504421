"""Whose a root is, and who could alter it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap.agent.host.handoff import pass_on
from sshmap.errors import Refused
from sshmap.store.layout import Root, check_root
from sshmap.store.ownership import flaw
from sshmap.transport import local

NOBODY = 65534
chowning = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody may write to, as /var/tmp: sticky, below another such."""
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o1777)
        yield Path(top)


def make(path: Path, mode: int = 0o700, owner: int = -1) -> Path:
    """Make a directory with a mode, and give it away where an owner is named."""
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, -1)
    return path


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o555])
def test_root_of_our_own_in_a_sticky_directory_is_used(shared: Path, mode: int) -> None:
    assert flaw(str(make(shared / "root", mode))) == ""


def test_root_that_is_not_there_yet_is_judged_by_its_parents(shared: Path) -> None:
    assert flaw(str(shared / "new" / "root")) == ""
    make(shared / "open", 0o777)
    assert flaw(str(shared / "open" / "new" / "root")) == f"{shared}/open can be written to by others"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_root_that_others_can_write_to_is_refused(shared: Path, mode: int) -> None:
    root = make(shared / "root", mode)
    assert flaw(str(root)) == f"{root} can be written to by others"


def test_root_that_is_a_link_is_refused_even_if_we_made_it(shared: Path) -> None:
    make(shared / "real")
    (shared / "root").symlink_to("real")
    assert "is a link" in flaw(str(shared / "root"))
    (shared / "dangling").symlink_to("nowhere")
    assert "is a link" in flaw(str(shared / "dangling"))


def test_links_in_parents_are_followed_and_judged(shared: Path) -> None:
    make(make(shared / "real") / "root")
    (shared / "ours").symlink_to("real")
    assert flaw(str(shared / "ours" / "root")) == ""
    make(make(shared / "open", 0o777) / "root")
    (shared / "led").symlink_to("open")
    assert flaw(str(shared / "led" / "root")) == f"{shared}/open can be written to by others"


def test_links_that_lead_in_a_circle_end(shared: Path) -> None:
    (shared / "one").symlink_to("two")
    (shared / "two").symlink_to("one")
    assert "circle" in flaw(str(shared / "one" / "root"))


@chowning
@pytest.mark.extra
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o1777])
def test_root_or_parent_of_somebody_else_is_refused(shared: Path, mode: int) -> None:
    theirs = make(shared / "theirs", mode, NOBODY)
    ours = make(theirs / "root")
    assert flaw(str(theirs)).startswith(f"{theirs} belongs to ")
    assert flaw(str(ours)).startswith(f"{theirs} belongs to ")


@chowning
@pytest.mark.extra
def test_link_of_somebody_else_in_a_parent_is_refused(shared: Path) -> None:
    make(make(shared / "real") / "root")
    (shared / "lure").symlink_to("real")
    os.lchown(shared / "lure", NOBODY, -1)
    assert flaw(str(shared / "lure" / "root")).startswith(f"{shared}/lure belongs to ")


@pytest.mark.parametrize(
    "use",
    [check_root, lambda root: Root(root).create(), local.connect, local.start_child],
    ids=["check", "create", "connect", "start"],
)
def test_unsafe_root_is_not_used(shared: Path, use: Callable[[str], object]) -> None:
    root = make(shared / "root", 0o777)
    with pytest.raises(Refused, match="can be written to by others") as caught:
        use(str(root))
    assert (caught.value.exit_code, bool(caught.value.hint), list(root.iterdir())) == (4, True, [])


def test_session_is_not_handed_to_whoever_listens_in_an_unsafe_root(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(shared / "root", 0o777)
    monkeypatch.setattr("sshmap.agent.host.handoff._is_same", lambda _: pytest.fail("it looked into the root"))
    assert pass_on(str(root)) is False
