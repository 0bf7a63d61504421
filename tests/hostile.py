"""A host that lies: it speaks the protocol up to the answer that a test has chosen for it."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from sshmap.client.wheels import here
from sshmap.errors import HostLost
from sshmap.inventory import Host
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, Receipt, Verb
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import read_marker
from sshmap.store.digest import digest_of
from sshmap.transport import memory
from sshmap.transport.channel import Channel

#: a message, content, or bytes that are sent as they are
Said = m.Message | bytes | bytearray
#: what is answered to which request
Answers = Mapping[type[m.Message], Iterable[Said]]
Request = TypeVar("Request", bound=m.Message)
CONTENT = b"content"
END = m.End(size=len(CONTENT), digest=digest_of(CONTENT))
#: a job that every host knows
SPEC = JobSpec(indir="sm://b/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))
RECEIPT = Receipt(b"m" * 16, b"i" * 16)


class Endless:
    """Answers of which the last is said for ever; may be gone through more than once."""

    def __init__(self, *said: Said) -> None:
        self._said = said

    def __iter__(self) -> Iterator[Said]:
        return itertools.chain(self._said, itertools.repeat(self._said[-1]))


class Made:
    """Answers that a function makes, each time anew."""

    def __init__(self, make: Callable[[], Iterator[Said]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Said]:
        return self._make()


def status(**fields: object) -> m.Status:
    """Return the status of a host that is up."""
    kind = (f"{here().version[0]}.{here().version[1]}", here().machine, here().libc)
    told = {
        "host": "h",
        "keys": 0,
        "size": 0,
        "free": 0,
        "cores": 1,
        "workers": 1,
        "daemon": True,
        "platform": kind,
        **fields,
    }
    return m.Status(**told)  # type: ignore[arg-type]


HONEST: Answers = {
    m.Ping: [m.Served()],
    m.Ls: [m.Listed(generation="g")],
    m.ListBuckets: [m.Served()],
    m.Get: [m.Served()],
    m.Remove: [m.Removed(count=1, size=1)],
    m.Verify: [m.Served()],
    m.Open: [m.Opened(run="run", epoch=1)],
    m.CountOutputs: [m.OutputCounts(rows=()), m.Served()],
    m.Plan: [m.Planned(job="job", inputs=1, fresh=1, kept=0)],
    m.Start: [m.RunEnded(done=1, failed=0, size=0, kept=0)],
    m.Sweep: [m.Removed(count=0, size=0)],
    m.Prune: [m.Removed(count=0, size=0)],
    m.CountLineage: [m.LineageCounts(keys={})],
    m.Explain: [m.Explained(free=0)],
    m.Jobs: [m.JobList(jobs=())],
    m.GetJob: [m.JobIs(job=SPEC, limits=Limits())],
    m.ListAttempts: [m.Served()],
    m.Follow: [m.RunEnded(done=0, failed=0, size=0, kept=0)],
    m.CancelRun: [m.CancelNoted(left=0)],
    m.Look: [m.Seen(queued=0, sending=0, size=0, load=0, cores=1, free=0)],
    m.Forget: [m.Forgotten(runs=0, attempts=0, files=0, size=0)],
    m.GetStatus: [status()],
    m.Diagnose: [m.Diagnosis()],
    m.StartDaemon: [status()],
    m.SetPeers: [m.PeersSet()],
    m.StopDaemon: [m.DaemonStopped(was_running=True)],
    m.Ship: [m.Wanted(wanted=False)],
    m.Relay: [m.RelayItem(id=1, name="b/000_k", receipt=RECEIPT), CONTENT, END, m.Served(count=1)],
    m.Delivered: [m.Served()],
    m.Exec: [m.Exited(code=0)],
    m.Eval: [m.Exited(code=0)],
}


def speak(channel: Channel, answers: Answers, heard: Callable[[m.Message], object] = type) -> None:
    """Serve a session until the client leaves; ``heard`` is called with each request."""
    with contextlib.suppress(HostLost), contextlib.closing(channel):
        channel.send(read_marker(channel))
        reader, writer = FrameReader(channel), FrameWriter(channel)
        hello = reader.read()
        assert isinstance(hello, m.Hello)
        for welcome in answers.get(m.Hello, [m.welcome(hello)]):
            assert isinstance(welcome, m.Message)
            writer.message(welcome)
        chosen = {**HONEST, **answers}
        waits: m.Message | None = None
        puts: list[m.PutResult] = []
        while (request := reader.read()) is not None:
            if isinstance(request, m.Message):
                heard(request)
            if isinstance(request, m.Plan | m.Start | m.Explain):
                waits = request
                continue
            if isinstance(request, m.Put):
                puts.append(m.PutResult(request.name))
            asked = waits if isinstance(request, m.Counted) else request
            honest = [m.Stored(results=tuple(puts)), m.Synced()] if isinstance(asked, m.Sync) else ()
            _say(channel, writer, chosen.get(type(asked), honest) if isinstance(asked, m.Message) else ())


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
    """The hosts of a cluster in this process: one lies, the others have nothing and say so, unless they are told what to say."""

    def __init__(self, answers: Answers, liar: str = "h0", others: Mapping[str, Answers] | None = None) -> None:
        self._answers = {**(others or {}), liar: answers}
        self._guard = threading.Lock()
        self._heard: list[tuple[str, m.Message]] = []

    def dial(self, host: Host, **options: bool) -> Channel:
        """Open a channel to a host."""
        del options
        return memory.connect(lambda channel: self._serve(host.name, channel))

    def _serve(self, name: str, channel: Channel) -> None:
        speak(channel, self._answers.get(name, {}), lambda request: self._note(name, request))

    def _note(self, name: str, request: m.Message) -> None:
        with self._guard:
            self._heard.append((name, request))

    def asked(self, kind: type[Request]) -> dict[str, list[Request]]:
        """Return the requests of a kind that came, by host."""
        found: dict[str, list[Request]] = {}
        with self._guard:
            for name, request in self._heard:
                if isinstance(request, kind):
                    found.setdefault(name, []).append(request)
        return found


@contextlib.contextmanager
def bounded_memory(limit: int) -> Generator[None]:
    """Have what is done take no more than so many bytes of memory at any time beyond what there was before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _memory("VmRSS")
    yield
    grown = _memory("VmHWM") - before
    assert grown < limit, f"it took {grown >> 20} MiB"


def _memory(field: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{field}:")[1].split()[0]) << 10
