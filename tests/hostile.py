"""A host that lies: it speaks the protocol up to the answer that a test has chosen for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping

from sshmap.errors import HostLost
from sshmap.inventory import Host
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import read_marker
from sshmap.transport import memory
from sshmap.transport.channel import Channel

#: a message, content, or bytes that are sent as they are
Said = m.Message | bytes | bytearray
#: what is answered to which request
Answers = Mapping[type[m.Message], Iterable[Said]]

HONEST: Answers = {
    m.Ping: [m.Served()],
    m.Ls: [m.Listed(generation="g")],
    m.Get: [m.Served()],
    m.Sync: [m.Synced()],
    m.Remove: [m.Removed(count=1, size=1)],
    m.Open: [m.Opened(run="run", epoch=1)],
    m.CountOutputs: [m.OutputCounts(rows=()), m.Served()],
    m.Plan: [m.Planned(job="job", inputs=1, fresh=1, kept=0)],
    m.Start: [m.RunEnded(done=1, failed=0, size=0, kept=0)],
    m.Sweep: [m.Removed(count=0, size=0)],
    m.Jobs: [m.JobList(jobs=())],
    m.GetStatus: [m.Status(host="h", keys=0, size=0, free=0, cores=1, workers=1, daemon=True)],
    m.Exec: [m.Exited(code=0)],
    m.Eval: [m.Exited(code=0)],
}


def speak(channel: Channel, answers: Answers) -> None:
    """Serve a session until the client leaves."""
    with contextlib.suppress(HostLost), contextlib.closing(channel):
        channel.send(read_marker(channel))
        reader, writer = FrameReader(channel), FrameWriter(channel)
        hello = reader.read()
        assert isinstance(hello, m.Hello)
        writer.message(m.welcome(hello))
        chosen = {**HONEST, **answers}
        waits: m.Message | None = None
        while (request := reader.read()) is not None:
            if isinstance(request, m.Plan | m.Start):
                waits = request
                continue
            asked = waits if isinstance(request, m.Counted) else request
            _say(channel, writer, chosen.get(type(asked), ()) if isinstance(asked, m.Message) else ())


def _say(channel: Channel, writer: FrameWriter, answers: Iterable[Said]) -> None:
    for said in answers:
        if isinstance(said, m.Message):
            writer.message(said)
        elif isinstance(said, bytearray):
            channel.send(said)
        else:
            writer.data(said)
            writer.flush()


class Hosts:
    """The hosts of a cluster in this process: one lies, the others have nothing and say so."""

    def __init__(self, answers: Answers, liar: str = "h0") -> None:
        self._answers, self._liar = answers, liar
        self._guard = threading.Lock()
        #: what the others were asked
        self.asked: list[m.Message] = []

    def dial(self, host: Host, **options: bool) -> Channel:
        """Open a channel to a host."""
        del options
        answers = self._answers if host.name == self._liar else {}
        return memory.connect(self._serve(answers))

    def _serve(self, answers: Answers) -> Callable[[Channel], None]:
        return lambda channel: speak(channel, answers)
