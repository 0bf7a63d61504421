"""One session: the opening exchange, then reading requests and passing each to what answers it. Lists all requests.

What a request does is in the module of its noun (`receiving`, `sending`, `listing`, `verifying`, `jobs`, `adhoc`).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sshmap.agent.host import lifecycle, logind
from sshmap.agent.host.peers import set_peers
from sshmap.agent.host.status import status
from sshmap.agent.host.wake import wake
from sshmap.agent.session.adhoc import serve_command
from sshmap.agent.session.admission import open_store
from sshmap.agent.session.deliveries import Deliveries
from sshmap.agent.session.ending import serve_end
from sshmap.agent.session.holds import Holds
from sshmap.agent.session.jobs import JOB_REQUESTS, ServedJobs
from sshmap.agent.session.listing import Listings, send_buckets
from sshmap.agent.session.receiving import Receiver
from sshmap.agent.session.runs import RUN_REQUESTS, ServedRuns
from sshmap.agent.session.sending import send_keys
from sshmap.agent.session.verifying import serve_verify
from sshmap.errors import HostLost, HostNotReady, ProtocolError, Refused, SshmapError
from sshmap.placement import Ring
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import read_marker
from sshmap.store.endings import Endings
from sshmap.store.layout import Root, check_root, host_error
from sshmap.store.notices import Counts, Notices
from sshmap.store.packages import packages_path, shipped_path
from sshmap.transport.channel import Channel

#: seconds of silence after which a sign of life is sent
HEARTBEAT = 3.0
#: what a peer's courier may ask for
PEER_REQUESTS = (m.Put, m.Sync, m.Has, m.RunOver, m.Ping)
#: names that are held in memory to count them
_MOST_NAMES = 1_000_000


def serve(root: Root, channel: Channel, *, warm: bool = False, peer: str = "") -> None:
    """Serve one session until the client leaves.

    Args:
        root: the host's root.
        channel: bytes from and to the client.
        warm: this process belongs to the daemon.
        peer: the host whose courier calls, by the key it logged in with; it may only bring files.
    """
    try:
        marker = read_marker(channel)
        channel.send(marker)
        reader, writer = FrameReader(channel), FrameWriter(channel)
    except SshmapError:
        channel.close()
        return
    with contextlib.suppress(HostLost), contextlib.closing(channel), _heartbeat(writer):
        try:
            hello = _greeting(reader)
            check_root(root.path)
            # only for clients: a peer is served as usual, and refused when it asks to stop the daemon
            if hello.ending and not peer and not hello.caller:
                serve_end(root, hello, reader, writer, warm=warm)
                return
            with contextlib.closing(
                ServedSession(root, hello, channel, reader, writer, warm=warm, peer=peer)
            ) as session:
                session.run()
        except SshmapError as exc:
            if isinstance(exc, HostLost) and not isinstance(exc, ProtocolError | HostNotReady):
                raise
            writer.message(m.Problem.of(exc))
        except OSError as exc:
            writer.message(m.Problem.of(host_error(exc, root.path)))


def _greeting(reader: FrameReader) -> m.Hello:
    """Read the client's Hello.

    Raises:
        ProtocolError: something else comes, or there is no version of the protocol that both sides speak.
    """
    hello = reader.read()
    if not isinstance(hello, m.Hello):
        raise ProtocolError("the session does not begin with Hello")
    m.welcome(hello)
    return hello


@contextlib.contextmanager
def _heartbeat(writer: FrameWriter) -> Iterator[None]:
    """Send a sign of life whenever nothing else was sent for `HEARTBEAT` seconds."""
    over = threading.Event()

    def beat() -> None:
        before = -1
        while not over.wait(HEARTBEAT):
            if writer.sends == before:
                try:
                    writer.message(m.Tick())
                except (SshmapError, OSError):
                    return
            before = writer.sends

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        # before the channel is closed: its descriptors may be used again for another session
        beating.join(HEARTBEAT)


class ServedSession:
    """The agent's side of a session.

    Raises:
        SshmapError: the client is not admitted.
    """

    def __init__(
        self,
        root: Root,
        hello: m.Hello,
        channel: Channel,
        reader: FrameReader,
        writer: FrameWriter,
        *,
        warm: bool,
        peer: str,
    ) -> None:
        self._channel, self.reader, self.writer = channel, reader, writer
        self._root, self._warm = root, warm
        self._listings = Listings.of(root)
        self._hello = hello
        if peer not in ("", hello.caller):
            raise Refused(f"{hello.caller or 'a client'} calls with the key of {peer}")
        self._peer, self._noted = bool(hello.caller), 0.0
        self._holds = Holds(root)
        self.store = open_store(root, hello, peer=self._peer)
        deliveries = Deliveries(self.store, Ring(hello.ring), hello.host, hello.caller)
        self.receiver = Receiver(self.store, channel.take, deliveries)
        self.served_jobs = ServedJobs(self.store, channel, reader, writer)
        self.served_runs = ServedRuns(self.store, channel, writer)

    def run(self) -> None:
        """Welcome the client, and answer its requests until it leaves."""
        self._note_use()
        if self._hello.autostart and not self._warm and not self._peer:
            lifecycle.ensure_running(self._root)
        owed = () if self._peer else Endings(self.store.ledger).owed()
        self.writer.message(m.welcome(self._hello, owed))
        while (request := self.reader.read()) is not None:
            if isinstance(request, memoryview):
                raise ProtocolError("content came without a Put")
            if not self._serve(request):
                return
            self._note_use()

    def _note_use(self) -> None:
        """Note that the host is in use, at most once a second."""
        if (now := time.monotonic()) - self._noted > 1.0:
            self._noted = now
            lifecycle.note_use(self._root)

    def _serve(self, request: m.Message) -> bool:
        """Answer a request, by a Problem if it fails; return whether the session can go on."""
        try:
            self._answer(request)
        except ProtocolError as exc:
            # the next frames may belong to the request that failed, so none can be read as a request
            self.writer.message(m.Problem.of(exc))
            return False
        except HostLost:
            raise
        except SshmapError as exc:
            self.writer.message(m.Problem.of(exc))
        except OSError as exc:
            self.writer.message(self._unforeseen(exc))
        except (msgspec.MsgspecError, ValueError, AssertionError):
            self.writer.message(_bug())
        return True

    def _unforeseen(self, exc: OSError) -> m.Problem:
        """Return the Problem for a failed system call; one that is neither about a file nor about space is a bug."""
        if exc.filename is None and exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _bug()
        return m.Problem.of(host_error(exc, self._root.path))

    def _answer(self, request: m.Message) -> None:
        if self._peer and not isinstance(request, PEER_REQUESTS):
            raise Refused(f"a peer may not ask for {type(request).__name__}")
        kind = type(request)
        if kind in JOB_REQUESTS:
            JOB_REQUESTS[kind](self.served_jobs, request)
        elif kind in RUN_REQUESTS:
            RUN_REQUESTS[kind](self.served_runs, request)
        elif kind in _HANDLERS:
            _HANDLERS[kind](self, request)
        else:
            raise ProtocolError(f"{kind.__name__} is not a request")

    def ls(self, request: m.Ls) -> None:
        """Answer a listing."""
        self._listings.answer(self.store, request, self.writer)

    def list_buckets(self, _: m.ListBuckets) -> None:
        """Send the buckets."""
        send_buckets(self.store, self.writer)

    def put(self, request: m.Put) -> None:
        """Receive a key; its result is sent with those of the other keys of its transaction."""
        result = self.receiver.receive(request, self.reader)
        if result is not None:
            self.writer.message(result)

    def sync(self, _: m.Sync) -> None:
        """Commit all that was received and say so."""
        for stored in self.receiver.flush():
            self.writer.message(stored, flush=False)
        self.writer.message(m.Synced())

    def get(self, request: m.Get) -> None:
        """Send content."""
        send_keys(self.store, request, self.writer)

    def remove(self, request: m.Remove) -> None:
        """Delete or count keys."""
        store = self.store
        if request.names:
            there = (store.keys.total_of if request.counting else store.remove_each)(request.names)
        else:
            there = (store.keys.total if request.counting else store.remove)(request.prefix, exact=request.exact)
        keys, size, copied, copied_size = there
        self.writer.message(m.Removed(count=keys, size=size, copied=copied, copied_size=copied_size))

    def ship(self, request: m.Ship) -> None:
        """Receive a file for a job, unless it is here already; also if another client sends the same file at the same time."""
        path = shipped_path(self._root, request.file.digest, request.packages)
        self.writer.message(m.Wanted(wanted=(wanted := not path.exists())))
        if wanted:
            self.receiver.receive_file(path, request.file.digest, self.reader, unpacked=request.packages is not None)
            self.writer.message(m.Synced())

    def need_packages(self, request: m.NeedPackages) -> None:
        """Say whether packages have to be sent."""
        self.writer.message(m.Wanted(wanted=not packages_path(self._root, request.requirements).is_dir()))

    def eval(self, request: m.Eval) -> None:
        """Run a command on a key."""
        serve_command(self.store, request.command, request.name, self._channel, self.writer)

    def exec(self, request: m.Exec) -> None:
        """Run a command on the host."""
        serve_command(self.store, request.command, "", self._channel, self.writer)

    def shell(self, request: m.Shell) -> None:
        """Run a command, or bash on a terminal, where a key lies."""
        from sshmap.agent.session.shells import serve_shell  # imports what no other request needs

        serve_shell(self.store, request, self._channel, self.reader, self.writer)

    def get_status(self, _: m.GetStatus) -> None:
        """Send the host's status."""
        self.writer.message(status(self.store))

    def diagnose(self, _: m.Diagnose) -> None:
        """Find out what only the host itself can, and send it."""
        from sshmap.agent.host.doctor import diagnose  # imports much that no other request needs

        self.writer.message(diagnose(self._root))

    def count_lineage(self, request: m.CountLineage) -> None:
        """Count the keys of other hosts that keys here were made from, as far as memory allows."""
        ring, found = Ring(self._hello.ring), {host: set[str]() for host in request.hosts}
        for name in itertools.chain.from_iterable(self.store.keys.lineages()):
            names = found.get(ring.place(name))
            if names is not None and len(names) < _MOST_NAMES // len(found):
                names.add(name)
        self.writer.message(m.LineageCounts(keys={host: len(names) for host, names in found.items()}))

    def start_daemon(self, _: m.StartDaemon) -> None:
        """Start the daemon, and say what may end it."""
        lifecycle.start(self._root)
        seen, told = status(self.store), tuple(f"{problem}: {mend}" for problem, mend in logind.findings())
        self.writer.message(msgspec.structs.replace(seen, findings=seen.findings + told))

    def set_peers(self, request: m.SetPeers) -> None:
        """Write down what the client says about the other hosts."""
        set_peers(self._root, request)
        self.writer.message(m.PeersSet())

    def has(self, request: m.Has) -> None:
        """Say whether a key is here."""
        self.writer.message(m.Served(count=int(self.store.keys.get(request.name) is not None)))

    def run_over(self, request: m.RunOver) -> None:
        """Note that a run is over on the host that calls."""
        counts = Counts(done=request.done, failed=request.failed, cancelled=request.cancelled)
        if not Notices(self.store.ledger).hear(request.run, self._hello.caller, counts):
            raise Refused(f"{self._hello.caller or 'a client'} takes no part in run {request.run}")
        wake(self._root, "courier")
        self.writer.message(m.Served())

    def verify(self, request: m.Verify) -> None:
        """Read keys against their digests."""
        serve_verify(self.store, request, self.reader, self.writer)

    def ping(self, _: m.Ping) -> None:
        """Give a sign of life, unless this one comes too late for what the session held."""
        self._holds.hear()
        self.writer.message(m.Served())

    def hold(self, request: m.Hold) -> None:
        """Hold a name for this session."""
        self._holds.hold(request.name, request.who)
        self.writer.message(m.Served())

    def close(self) -> None:
        """Drop what was received but not committed, let go of what is held, and close the ledger."""
        self.receiver.close()
        self._holds.close()
        self.store.close()


def _bug() -> m.Problem:
    return m.Problem(kind="SshmapError", message=f"a bug in sshmap: {traceback.format_exc(limit=-3)}")


_HANDLERS: dict[type[m.Message], Callable[[ServedSession, Any], None]] = {
    m.Ls: ServedSession.ls, m.ListBuckets: ServedSession.list_buckets, m.Put: ServedSession.put, m.Sync: ServedSession.sync,
    m.Get: ServedSession.get, m.Remove: ServedSession.remove, m.Ship: ServedSession.ship, m.NeedPackages: ServedSession.need_packages,
    m.Exec: ServedSession.exec, m.Shell: ServedSession.shell, m.Eval: ServedSession.eval, m.GetStatus: ServedSession.get_status,
    m.Diagnose: ServedSession.diagnose, m.CountLineage: ServedSession.count_lineage, m.StartDaemon: ServedSession.start_daemon,
    m.SetPeers: ServedSession.set_peers, m.Has: ServedSession.has, m.RunOver: ServedSession.run_over,
    m.Verify: ServedSession.verify, m.Ping: ServedSession.ping, m.Hold: ServedSession.hold,
}  # fmt: skip
