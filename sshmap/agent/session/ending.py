"""The session of a client that stops the daemon and may delete the root: it is served also where parts of the root are missing."""

from __future__ import annotations

from sshmap.agent.host import lifecycle
from sshmap.agent.host.peers import forget
from sshmap.agent.host.status import purge
from sshmap.agent.session.admission import admit_end
from sshmap.errors import ProtocolError, Refused
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.store.layout import Root


def serve_end(root: Root, hello: m.Hello, reader: FrameReader, writer: FrameWriter, *, warm: bool) -> None:
    """Stop the daemon as the client asks, and delete the root if it says so.

    Raises:
        Refused: this process belongs to the daemon, or the client means another cluster.
        HostNotReady: the daemon does not end.
    """
    if warm:
        raise Refused("the warm agent cannot stop its own daemon")
    there = root.ledger.exists()
    admit_end(root, hello)
    writer.message(m.welcome(hello))
    request = reader.read()
    if request is None:
        return
    if not isinstance(request, m.StopDaemon):
        raise ProtocolError("a session that is to end the daemon asks for something else")
    was_running = lifecycle.stop(root)
    if request.purge and root.path.exists():
        forget(root)
        purge(root)
    writer.message(m.DaemonStopped(was_running=was_running, there=there))
