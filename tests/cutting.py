"""A network for tests that cuts, stalls or ends the client's connections at a chosen frame, in either direction.

It stands where the client dials, so both sides are real: the client on this side, an agent behind whatever
transport the host has on the other. Frames are only counted, by their headers; nothing is decoded.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import NamedTuple, TypeVar

import pytest
import tenacity

from sshmap.errors import ConversationBroken, HostLost, ProtocolError, SshmapError
from sshmap.inventory import Host
from sshmap.protocol.framing import HEADER
from sshmap.protocol.handshake import new_marker
from sshmap.transport.channel import Channel
from sshmap.transport.dial import dial

Value = TypeVar("Value")
#: where the client takes its way to a host from
SEAM = "sshmap.client.conversations.dial"
#: seconds that any call may take, however its connections break
LIMIT = 30.0
#: what the opening line counts as: a frame without a header
_MARKER = len(new_marker())
#: seconds between two looks whether the other direction has stalled
_LOOK = 0.02


class Way(enum.Enum):
    """A direction, seen from the client."""

    IN = "in"
    OUT = "out"


class Kind(enum.Enum):
    """How a connection ends."""

    #: both sides see an error, as after a RST
    RESET = "reset"
    #: the reader sees the end, as after a FIN
    END = "end"
    #: nobody sees anything; the agent keeps its session
    STALL = "stall"


class Cut(NamedTuple):
    """Where a connection ends."""

    way: Way
    #: so many frames pass; the first is the opening line
    frame: int
    #: half of the next frame passes, too
    inside: bool = False
    kind: Kind = Kind.RESET


class _Meter:
    """Counts the frames of one direction and says how many bytes may pass before the cut."""

    def __init__(self, way: Way, cut: Cut | None) -> None:
        self.cut = cut if cut and cut.way is way else None
        self.frames = 0
        self._header = bytearray()
        #: length of what follows the header, and how much of it is still to come
        self._length: int | None = _MARKER
        self._left = _MARKER

    @property
    def room(self) -> int:
        """Bytes that may pass at once; 0 where the cut is."""
        if (cut := self.cut) and self.frames == cut.frame:
            if not cut.inside:
                return 0
            if self._length is not None:
                return max(0, self._left - (self._length - self._length // 2))
        return HEADER.size - len(self._header) if self._length is None else self._left

    def passed(self, piece: memoryview) -> None:
        """Take note of bytes that have passed, no more than there was room for."""
        if self._length is None:
            self._header += piece
            if len(self._header) == HEADER.size:
                self._length = self._left = HEADER.unpack(self._header)[0]
        else:
            self._left -= len(piece)
        if self._length is not None and not self._left:
            self.frames += 1
            self._length = None
            self._header.clear()


class CutChannel:
    """A channel that ends where it is told to.

    Args:
        channel: the real one, over a socket.
        cut: where it ends; None leaves it whole.
        keep: takes the real channel in place of closing it, once it has stalled.
    """

    def __init__(self, channel: Channel, cut: Cut | None, keep: Callable[[Channel], None]) -> None:
        self._channel, self._cut, self._keep = channel, cut, keep
        self._outward, self._inward = _Meter(Way.OUT, cut), _Meter(Way.IN, cut)
        #: whether the cut has happened
        self.severed = False

    def calm(self) -> None:
        """Stay whole from now on, unless the cut has happened."""
        if not self.severed:
            self._outward.cut = self._inward.cut = None

    @property
    def frames(self) -> dict[Way, int]:
        """How many whole frames have passed in each direction."""
        return {Way.OUT: self._outward.frames, Way.IN: self._inward.frames}

    def send(self, *pieces: bytes | bytearray | memoryview) -> None:
        """Send as much as comes before the cut."""
        for piece in pieces:
            rest = memoryview(piece).cast("B")
            while rest:
                if not self._may_go_on(self._outward):
                    if self._stalled:
                        return
                    raise ConversationBroken("the connection broke: cut by the test")
                part = rest[: self._outward.room]
                self._channel.send(part)
                self._outward.passed(part)
                rest = rest[len(part) :]

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Leave it to `send`."""
        return 0

    def recv_into(self, buffer: memoryview) -> int:
        """Receive as much as comes before the cut."""
        while not (waiting := self._channel.readable(_LOOK)) and not self.severed:
            continue
        if not (waiting and self._may_go_on(self._inward)):
            return self._ended()
        count = self._channel.recv_into(buffer[: self._inward.room])
        if self.severed and not count:
            return self._ended()
        self._inward.passed(buffer[:count])
        return count

    def fileno(self) -> int:
        """Return the real channel's descriptor."""
        return self._channel.fileno()

    def readable(self, seconds: float) -> bool:
        """Wait until something can be received, which the end is, too."""
        return self.severed or self._channel.readable(seconds)

    def hand(self, frame: bytes, fd: int) -> bool:
        """Leave it to `send`."""
        return False

    def take(self) -> int:
        """Refuse."""
        raise ProtocolError("no file comes this way")

    def abort(self) -> None:
        """Wake the threads that wait."""
        if not self._stalled:
            self._channel.abort()

    def close(self) -> None:
        """Close; what has stalled is only put aside, as its agent learns nothing."""
        self._keep(self._channel) if self._stalled else self._channel.close()

    @property
    def _stalled(self) -> bool:
        return self.severed and self._cut is not None and self._cut.kind is Kind.STALL

    def _may_go_on(self, meter: _Meter) -> bool:
        if not self.severed and not meter.room:
            self.severed = True
            if not self._stalled:
                # the thread that waits for the other direction wakes up
                self._channel.abort()
        return not self.severed

    def _ended(self) -> int:
        if self._cut and self._cut.kind is Kind.END:
            return 0
        raise ConversationBroken("no sign of life" if self._stalled else "the connection broke: cut by the test")


class Network:
    """The ways to all hosts, each of which may be told where its next connections end."""

    def __init__(self) -> None:
        self._plans: dict[str, list[Cut]] = {}
        self._refusing: set[str] = set()
        self._guard = threading.Lock()
        self._stalled: list[Channel] = []
        #: connections since the last plan, with the host's name
        self.dialled: list[tuple[str, CutChannel]] = []

    def plan(self, host: str, *cuts: Cut, refuse: bool = False) -> None:
        """Cut the next connections to a host, one by one; those after them are whole, or refused."""
        with self._guard:
            self._plans, self._refusing, self.dialled = {host: list(cuts)}, {host} if refuse else set(), []

    def calm(self) -> None:
        """Leave everything whole that is not cut yet."""
        with self._guard:
            self._plans, self._refusing = {}, set()
            for _, channel in self.dialled:
                channel.calm()

    @property
    def cuts(self) -> int:
        """How many connections have been cut since the last plan."""
        return sum(channel.severed for _, channel in self.dialled)

    def dial(self, host: Host, **options: bool) -> Channel:
        """Open a channel as the client does, cut by the plan."""
        with self._guard:
            cuts = self._plans.get(host.name, [])
            cut = cuts.pop(0) if cuts else None
            if cut is None and host.name in self._refusing:
                raise HostLost(f"{host.name} refuses: told so by the test", host=host.name)
        channel = CutChannel(dial(host, **options), cut, self._stalled.append)
        with self._guard:
            self.dialled.append((host.name, channel))
        return channel

    def close(self) -> None:
        """Let agents whose clients have stalled go."""
        while self._stalled:
            self._stalled.pop().close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client does not wait before it tries again."""
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, impatient: None) -> Iterator[Network]:
    """The client's network, whole until it is told otherwise."""
    with contextlib.closing(Network()) as opened:
        monkeypatch.setattr(SEAM, opened.dial)
        yield opened


def in_time(call: Callable[[], Value]) -> Value | SshmapError:
    """Return what a call returns, or the error that a user would see; it is a failure if it takes too long."""
    answers: list[Value | BaseException] = []

    def run() -> None:
        try:
            answers.append(call())
        except BaseException as exc:  # noqa: BLE001  # raised again below
            answers.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert answers, f"it hangs: nothing within {LIMIT:.0f} s"
    answer = answers[0]
    if isinstance(answer, BaseException) and not isinstance(answer, SshmapError):
        raise answer
    return answer
