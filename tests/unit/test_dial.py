"""Which transport carries a conversation from the laptop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from sshmap.inventory import Host
from sshmap.transport import dial as dialing
from sshmap.transport import fabric, openssh

Way = Literal["auto", "fabric", "openssh"]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the transports that were asked for a channel; nothing is connected."""
    names: list[str] = []
    monkeypatch.setattr(fabric, "connect", lambda *_: names.append("fabric"))
    monkeypatch.setattr(openssh, "connect", lambda *_: names.append("openssh"))
    dialing._has_program.cache_clear()
    yield names
    dialing._has_program.cache_clear()


@pytest.mark.parametrize(
    ("transport", "bulk", "expected"),
    [
        ("auto", False, "fabric"), ("auto", True, "openssh"), ("fabric", True, "fabric"), ("openssh", False, "openssh"),
    ],
)  # fmt: skip
def test_auto_takes_the_ssh_program_for_large_content(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, transport: Way, bulk: bool, expected: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    dialing.dial(Host(name="h1", address="h1", transport=transport), bulk=bulk)
    assert opened == [expected]


def test_auto_takes_fabric_for_everything_where_there_is_no_ssh_program(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    dialing.dial(Host(name="h1", address="h1"), bulk=True)
    assert opened == ["fabric"]


def test_hosts_use_auto_unless_told_otherwise() -> None:
    assert Host(name="h1").transport == "auto"
