"""What comes through the connection of the warm agent: clients of this machine, and sessions with their descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.host.handoff import REQUEST, admitted
from sshmap.agent.session.listener import Listener
from sshmap.store.layout import Root
from sshmap.transport.sockets import connected

PACKAGE = Path(__file__).parents[2]

#: has its stdin and stdout passed on, and says whether they were
PASSING = """
import sys
sys.path.insert(0, sys.argv[1])
from sshmap.agent.host import handoff
handoff._is_same = lambda root: True
print("passed on:", handoff.pass_on(sys.argv[2]))
"""


class Exhausted:
    """A listening socket that cannot accept at first, and after one connection never returns."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening, self._calls = listening, 0

    def accept(self) -> tuple[socket.socket, object]:
        """Accept the third time."""
        self._calls += 1
        if self._calls < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        if self._calls > 3:
            threading.Event().wait()
        return self._listening.accept()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: of whoever comes, and the agent's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def knock(caller: socket.socket, fds: list[int]) -> None:
    """Knock, wait for the answer, send descriptors."""
    caller.sendall(REQUEST)
    assert caller.recv(1) == REQUEST
    socket.send_fds(caller, [REQUEST], fds)
    caller.recv(1)


def test_client_is_left_to_speak_for_itself(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, connection = ends
    caller.sendall(b"sshmap 00\n")
    assert admitted(connection) is None
    assert connection.recv(100) == b"sshmap 00\n"


def test_descriptors_arrive_and_are_not_passed_on_to_commands(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, connection = ends
    from_client, to_agent = os.pipe()
    calling = threading.Thread(target=knock, args=(caller, [from_client, to_agent]))
    calling.start()
    passed = admitted(connection)
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
    caller, connection = ends
    calling = threading.Thread(target=knock, args=(caller, [caller.fileno()] * count))
    calling.start()
    with pytest.raises(ConnectionResetError):
        admitted(connection)
    connection.close()
    calling.join()


def test_session_that_nobody_takes_is_served_where_it_is(tmp_path: Path) -> None:
    """An agent that ends with the descriptors in its hands has not begun."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "agent.sock"))
        listening.listen(1)
        with subprocess.Popen(
            [sys.executable, "-c", PASSING, str(PACKAGE), str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            connection, _ = listening.accept()
            with connection:
                assert connection.recv(1) == REQUEST
                connection.sendall(REQUEST)
                _, fds, _, _ = socket.recv_fds(connection, 1, 2)
            for fd in fds:
                os.close(fd)
            assert process.communicate(timeout=30)[0] == b"passed on: False\n"


def test_full_queue_of_a_hung_agent_is_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    with contextlib.ExitStack() as stack:
        hung = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        hung.bind(path)
        hung.listen(1)
        queued = 0
        while (caller := connected(path)) is not None:
            stack.enter_context(caller)
            queued += 1
            assert queued < 10
        assert queued > 0


def test_agent_that_has_no_descriptor_left_accepts_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(tmp_path / "root")
    root.create()
    listener = Listener(root)
    taken: queue.Queue[socket.socket] = queue.Queue()
    monkeypatch.setattr(listener, "_admit", taken.put)
    ours = listener._socket
    monkeypatch.setattr(listener, "_socket", Exhausted(ours))
    threading.Thread(target=listener.run_forever, daemon=True).start()
    caller = connected(str(root.socket))
    assert caller
    with ours, caller, taken.get(timeout=30) as served:
        served.sendall(b"x")
        assert caller.recv(1) == b"x"


def test_caller_that_leaves_after_knocking_is_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, connection = ends
    caller.sendall(REQUEST)
    caller.close()
    with pytest.raises(OSError, match=r"."):
        admitted(connection)
