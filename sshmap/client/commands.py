"""The output of ad hoc commands: passed on line by line as it comes, or kept up to a limit.

Memory does not grow with the output: a slow reader slows the command down, and bytes above a limit are only counted.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from sshmap.client.conversations import Conversations
from sshmap.client.results import Spoken, all_of
from sshmap.errors import ProtocolError
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: bytes kept of the stdout of a command on a host, and as many of its stderr
OUTPUT_LIMIT = 64 << 20
#: bytes after which a line is passed on though it has not ended
LONGEST_LINE = 65536


class Sink(Protocol):
    """What takes a command's output."""

    def write(self, piece: bytes | memoryview, /) -> object:
        """Take some bytes."""

    def flush(self) -> object:
        """Pass on what was taken."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines that a command has printed."""

    host: str
    #: without their ends
    lines: tuple[bytes, ...]
    #: whether they were printed on stderr
    error: bool


class SerialCallback:
    """Calls one callback for the lines of commands on many hosts, one call at a time; once it has raised, all commands are ended.

    Args:
        heard: the callback.
    """

    def __init__(self, heard: Callable[[Heard], None]) -> None:
        self._heard = heard
        self._lock = threading.Lock()
        self._raised: BaseException | None = None

    def tell(self, heard: Heard) -> None:
        """Pass on some lines.

        Raises:
            BaseException: what the callback raised, now or before.
        """
        with self._lock:
            if self._raised:
                raise self._raised
            try:
                self._heard(heard)
            except BaseException as exc:
                self._raised = exc
                raise


class Lines:
    """Cuts the output of one command into lines.

    Args:
        host: where the command runs.
        callback: called with the lines.
        error: whether this is its stderr.
    """

    def __init__(self, host: str, callback: SerialCallback, *, error: bool) -> None:
        self._host, self._listener, self._error = host, callback, error
        self._rest = b""

    def write(self, piece: bytes | memoryview, /) -> None:
        """Take some output, and pass on the lines that end in it."""
        *lines, self._rest = (self._rest + bytes(piece)).split(b"\n")
        if len(self._rest) >= LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        self._tell(lines)

    def flush(self) -> None:
        """Do nothing: a line that has not ended waits for its end."""

    def close(self) -> None:
        """Pass on the last line if it has no line end."""
        self._tell([self._rest] if self._rest else [])
        self._rest = b""

    def _tell(self, lines: list[bytes]) -> None:
        if lines:
            told = tuple(line.removesuffix(b"\r") for line in lines)
            self._listener.tell(Heard(host=self._host, lines=told, error=self._error))


class LimitedOutput:
    """Keeps the beginning of a stream.

    Args:
        limit: bytes kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()
        #: bytes that were not kept
        self.dropped = 0

    def write(self, piece: bytes | memoryview, /) -> None:
        """Take some bytes."""
        room = self._limit - len(self._content)
        self._content += piece[:room]
        self.dropped += max(0, len(piece) - room)

    def flush(self) -> None:
        """Do nothing."""

    @property
    def content(self) -> bytes:
        """What was kept."""
        return bytes(self._content)


def collect(conversations: Conversations, command: str, names: Iterable[str] | None, limit: int) -> dict[str, Spoken]:
    """Run a command on hosts; see `Cluster.exec`."""

    def run(host: str) -> Spoken:
        out, err = LimitedOutput(limit), LimitedOutput(limit)
        code = _execute(conversations, host, command, out, err)
        return Spoken(exit_code=code, stdout=out.content, stderr=err.content, dropped=out.dropped + err.dropped)

    return all_of(*conversations.gather(run, names))


def listen(
    conversations: Conversations, command: str, heard: Callable[[Heard], None], names: Iterable[str] | None
) -> dict[str, int]:
    """Run a command on hosts; see `Cluster.exec_lines`."""
    callback = SerialCallback(heard)

    def run(host: str) -> int:
        out, err = Lines(host, callback, error=False), Lines(host, callback, error=True)
        with contextlib.closing(out), contextlib.closing(err):
            return _execute(conversations, host, command, out, err)

    return all_of(*conversations.gather(run, names))


def _execute(conversations: Conversations, host: str, command: str, out: Sink, err: Sink) -> int:
    request = m.Exec(command=command)
    return conversations.once(host, lambda session: stream_command(session, request, out, err))


def stream_command(session: Session, request: m.Eval | m.Exec | m.Shell, out: Sink, err: Sink) -> int:
    """Run a command once and pass on its stdout and stderr; return its exit code.

    Raises:
        SshmapError: the host could not run it.
    """
    session.begin(request, m.Exited, m.Problem)
    return pass_on(session, out, err)


def pass_on(session: Session, out: Sink, err: Sink) -> int:
    """Pass on the stdout and stderr of a command that was begun; return its exit code.

    Raises:
        SshmapError: the host could not run it.
    """
    while True:
        frame = session.frame()
        if isinstance(frame, memoryview):
            out.write(frame)
            out.flush()
        elif isinstance(frame, m.Said):
            err.write(frame.text)
            err.flush()
        elif isinstance(frame, m.Exited):
            return frame.code
        elif isinstance(frame, m.Problem):
            raise frame.error(session.host)
        else:
            raise ProtocolError(f"{type(frame).__name__} came instead of the command's output", host=session.host)
