"""Clients and hosts of other versions: they speak the highest version of the protocol that both know, or say why not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from sshmap.agent.session import server
from sshmap.errors import ProtocolError
from sshmap.protocol import base
from sshmap.protocol.messages import Hello, settle_version
from sshmap.store.layout import Root
from sshmap.transport import memory
from sshmap.transport.session import Session
from tests.contract.talk import HELLO, put


@pytest.mark.parametrize(
    ("client", "host", "spoken"),
    [((3, 3), (3, 3), 3), ((3, 5), (3, 3), 3), ((3, 3), (3, 4), 3), ((3, 5), (2, 4), 4), ((5, 6), (4, 5), 5)],
)
def test_client_and_host_settle_on_the_highest_version_that_both_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: tuple[int, int], host: tuple[int, int], spoken: int
) -> None:
    """An older and a newer one of each."""
    with contextlib.closing(versioned(tmp_path, monkeypatch, client, host)) as session:
        assert session.welcome.version == spoken
        assert put(session, "b/k", b"content").fresh


@pytest.mark.parametrize(("client", "host"), [((4, 4), (3, 3)), ((3, 3), (4, 5)), ((0, 0), (3, 3))])
def test_client_and_host_without_a_common_version_are_told_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: tuple[int, int], host: tuple[int, int]
) -> None:
    with pytest.raises(
        ProtocolError, match=rf"speaks protocol {host[0]}.*, the other {client[0] or '2 or lower'}"
    ) as caught:
        versioned(tmp_path, monkeypatch, client, host)
    assert "sshmap up" in caught.value.hint


def versioned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: tuple[int, int], host: tuple[int, int]
) -> Session:
    """Open a session between a client and a host that speak these versions, each from lowest to highest."""

    def settle(lowest: int, highest: int) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(base, "LOWEST", host[0])
            patch.setattr(base, "VERSION", host[1])
            return settle_version(lowest, highest)

    def settle_as_client(lowest: int, highest: int) -> int:
        assert client[0] <= lowest <= highest <= client[1]
        return highest

    monkeypatch.setattr("sshmap.protocol.base.settle_version", settle)
    monkeypatch.setattr("sshmap.transport.session.settle_version", settle_as_client)
    monkeypatch.setattr("sshmap.transport.session._with_versions", lambda hello: hello)
    root = Root(tmp_path / "root")
    hello = Hello(lowest=client[0], version=client[1], host="h0", ring=HELLO.ring)
    return Session(memory.connect(lambda channel: server.serve(root, channel)), hello)
