"""What a host says while it is set up is data: too much of it, or the wrong thing, is an error and no traceback."""

from __future__ import annotations

import contextlib

import pytest

from sshmap.client import bootstrap
from sshmap.client.bootstrap import Facts, marked
from sshmap.errors import HostLost, ProtocolError
from sshmap.transport import memory
from sshmap.transport.channel import Channel


def test_host_that_prints_one_endless_line_is_given_up() -> None:
    def chatter(channel: Channel) -> None:
        with contextlib.suppress(HostLost), contextlib.closing(channel):
            while True:
                channel.send(b"x" * 4096)

    channel = memory.connect(chatter)
    with pytest.raises(ProtocolError, match="prints too much"):
        list(marked(channel, "mark"))
    channel.close()


@pytest.mark.parametrize("line", ["", " ", "python3 3.1 x . m l", "p 3 11 3.. m l", "p 3 ٣ 3.40 m l"])
def test_interpreter_that_says_anything_else_is_not_used(line: str) -> None:
    assert not bootstrap._python(line).usable


@pytest.mark.parametrize("line", ["", "1", "[]", "{}", '{"root": 3}', "[" * 100_000])
def test_installer_that_answers_anything_else_is_no_traceback(line: str) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        bootstrap._decode(line, Facts)
