"""What paramiko raises when a connection goes in the middle of a call: always a lost host, and closing is quiet."""

from __future__ import annotations

from collections.abc import Iterator

import paramiko
import pytest

from sshmap.errors import HostLost
from sshmap.protocol.handshake import new_marker
from sshmap.store.layout import Root
from sshmap.transport.channel import Channel
from tests.contract.conftest import Dial

RAISED = [EOFError(), paramiko.SSHException("Key-exchange timed out"), OSError("Socket is closed")]


@pytest.fixture
def channel(dial_fabric: Dial, root: Root) -> Iterator[Channel]:
    """A channel on which the agent has answered."""
    opened, marker = dial_fabric(root.path), new_marker()
    opened.send(marker)
    assert opened.recv_into(memoryview(bytearray(1))) == 1
    yield opened
    opened.close()


@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_connection_that_breaks_while_sending_is_a_lost_host(
    channel: Channel, raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr(paramiko.Transport, "_send_user_message", broken)
    with pytest.raises(HostLost, match=r"the connection broke: ."):
        channel.send(b"some bytes")
    channel.close()


@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_connection_that_breaks_while_receiving_is_a_lost_host(
    channel: Channel, raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr(paramiko.Channel, "_check_add_window", broken)
    with pytest.raises(HostLost, match=r"the connection broke: ."):
        channel.recv_into(memoryview(bytearray(100)))
