"""The transports that every contract test runs over.

A new one is a name in `TRANSPORTS` and a fixture ``dial_<name>``, which may in turn ask for a server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap.agent.session.server import serve
from sshmap.protocol.messages import Hello
from sshmap.store.layout import Root
from sshmap.transport import fabric, local, memory, openssh
from sshmap.transport.argv import agent_argv
from sshmap.transport.channel import Channel
from sshmap.transport.dial import target_of
from sshmap.transport.session import Session
from sshmap.transport.target import Target
from tests.contract.talk import HELLO
from tests.sshd import SshdHosts

TRANSPORTS = ("memory", "local", "openssh", "fabric")

#: opens a channel to the agent of a root
Dial = Callable[[Path], Channel]
Connect = Callable[[], Channel]
OpenSession = Callable[..., Session]


@pytest.fixture
def dial_memory() -> Dial:
    """Serve in a thread of this process."""
    return lambda root: memory.connect(lambda channel: serve(Root(root), channel))


@pytest.fixture
def dial_local() -> Dial:
    """Serve in a child process, as no daemon runs."""
    return lambda root: local.connect(str(root))


@pytest.fixture(scope="session")
def ssh_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A real sshd on this machine, for all tests."""
    with SshdHosts(tmp_path_factory.mktemp("sshd") / "ssh") as hosts:
        (host,) = hosts.add()
        yield target_of(hosts.host(host))


@pytest.fixture
def dial_openssh(ssh_target: Target) -> Dial:
    """Serve behind sshd, reached with the `ssh` program."""
    return lambda root: openssh.connect(ssh_target, agent_argv("serve", str(root)))


@pytest.fixture
def dial_fabric(ssh_target: Target) -> Dial:
    """Serve behind sshd, reached with fabric."""
    return lambda root: fabric.connect(ssh_target, agent_argv("serve", str(root)))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """The root of the host that is called."""
    return Root(tmp_path / "root")


@pytest.fixture(params=TRANSPORTS)
def connect(request: pytest.FixtureRequest, root: Root) -> Iterator[Connect]:
    """Open channels to the host's agent; they are closed afterwards."""
    dial: Dial = request.getfixturevalue(f"dial_{request.param}")
    with contextlib.ExitStack() as stack:

        def opened() -> Channel:
            channel = dial(root.path)
            stack.callback(channel.close)
            return channel

        yield opened


@pytest.fixture
def open_session(connect: Connect) -> OpenSession:
    """Open sessions with the host's agent."""

    def opened(hello: Hello = HELLO) -> Session:
        return Session(connect(), hello)

    return opened


@pytest.fixture
def session(open_session: OpenSession) -> Session:
    """A session with the host's agent."""
    return open_session()
