"""What comes through the door of the warm agent: clients of this machine, and sessions with their descriptors."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from sshmap.agent.door import KNOCK, admitted


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: of whoever comes, and the agent's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def knock(caller: socket.socket, fds: list[int]) -> None:
    """Knock, wait for the answer, send descriptors."""
    caller.sendall(KNOCK)
    assert caller.recv(1) == KNOCK
    socket.send_fds(caller, [KNOCK], fds)


def test_client_is_left_to_speak_for_itself(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, door = ends
    caller.sendall(b"sshmap 00\n")
    assert admitted(door) is None
    assert door.recv(100) == b"sshmap 00\n"


def test_descriptors_arrive_and_are_not_passed_on_to_commands(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, door = ends
    from_client, to_agent = os.pipe()
    calling = threading.Thread(target=knock, args=(caller, [from_client, to_agent]))
    calling.start()
    passed = admitted(door)
    calling.join()
    assert passed
    try:
        assert [os.get_inheritable(fd) for fd in passed] == [False, False]
        os.write(to_agent, b"through the pipe")
        assert os.read(passed[0], 100) == b"through the pipe"
    finally:
        for fd in (*passed, from_client, to_agent):
            os.close(fd)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_descriptors_are_refused(ends: tuple[socket.socket, socket.socket], count: int) -> None:
    caller, door = ends
    calling = threading.Thread(target=knock, args=(caller, [caller.fileno()] * count))
    calling.start()
    with pytest.raises(ConnectionResetError):
        admitted(door)
    calling.join()


def test_caller_that_leaves_after_knocking_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, door = ends
    caller.sendall(KNOCK)
    caller.close()
    with pytest.raises(OSError, match=r"."):
        admitted(door)
