"""`shell`: a command, or bash on a terminal, where a key lies, in what a task on that key has: directory, environment, input.

The terminal is one of this host's (pty); what is typed comes as content, what is to be shown goes as content.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import stat
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

from sshmap.agent.execution.once import Once
from sshmap.agent.execution.shell import task_environment
from sshmap.agent.session.adhoc import open_input, stream
from sshmap.errors import HostLost, NothingMatched, UsageError
from sshmap.model import RunId, Shipped, Verb, base_name, show
from sshmap.protocol import messages as m
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.jobs import Jobs
from sshmap.store.kept_failures import KeptFailures
from sshmap.store.layout import remove_tree
from sshmap.transport.channel import Channel

#: bytes of what a command shows that are read at once
_PIECE = 16384
#: bytes of what is typed that are held for a terminal that does not take them
_MOST_TYPED = 1 << 16
#: what poll(2) tells of a channel whose client has left, where the system can say so though there is more to read
_LEAVES = getattr(select, "POLLRDHUP", 0)


def serve_shell(store: Store, request: m.Shell, channel: Channel, reader: FrameReader, writer: FrameWriter) -> None:
    """Run a command as a task would, or bash on a terminal until it ends or the client leaves.

    Raises:
        NothingMatched: there is no such key, or nothing is kept of a failed task.
        DigestMismatch: its content is damaged.
    """
    if "\0" in request.command:
        raise UsageError("the command holds a NUL byte")
    stdin = open_input(store, request.name)
    try:
        with _folder(store, request) as folder:
            environment = _environment(store, request)
            if request.rows:
                code = _on_terminal(request, folder, environment, channel, reader, writer)
            else:
                process = Once(request.command, stdin, folder, environment)
                with contextlib.closing(process):
                    stream(process, channel, writer)
                    code = process.wait()
        writer.message(m.Exited(code=code))
    finally:
        os.close(stdin)


def _environment(store: Store, request: m.Shell) -> dict[str, str]:
    base = base_name(request.name)
    return task_environment(store.root.read_cluster().host, str(store.root.path)) | {
        "SSHMAP_KEY": show(request.name), "SSHMAP_NAME": base, "SSHMAP_FILE": store.files.path(request.name),
        "SSHMAP_JOB": request.run or "shell", "SSHMAP_ATTEMPT": "1", "filename": base,
        **({"TERM": request.terminal or "dumb"} if request.rows else {}),
    }  # fmt: skip


@contextlib.contextmanager
def _folder(store: Store, request: m.Shell) -> Iterator[Path]:
    """Make the directory to work in: with the shipped files of a run, or as the last failed attempt left it."""
    scratch = locks.scratch_dir(store.root)
    work = scratch / "work"
    try:
        if request.failed:
            kept = _kept(store, request)
            shutil.copytree(kept, work, symlinks=True, ignore=_special)
        else:
            work.mkdir(0o700)
            for file in _shipped(store, request.run):
                shutil.copyfile(store.root.shipped / file.digest.hex(), work / file.name)
                (work / file.name).chmod(0o700 if file.executable else 0o600)
        yield work
    finally:
        remove_tree(scratch)


def _special(folder: str, names: list[str]) -> list[str]:
    """Return those files of a directory that have no content: pipes, sockets and devices."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return [
        name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))
    ]


def _shipped(store: Store, run: str) -> tuple[Shipped, ...]:
    if not run:
        return ()
    maker = store.keys.maker(Jobs(store.ledger).row(RunId(run)).maker)
    return maker.shipped if maker else ()


def _kept(store: Store, request: m.Shell) -> Path:
    run = Jobs(store.ledger).row(RunId(request.run))
    if Verb(run.verb) is Verb.MERGE:
        raise UsageError(
            "shell opens where a key lies; a merge has many", hint="name one of its inputs, without --failed"
        )
    path = KeptFailures(store).of(run.seq, request.name)
    if path is None:
        raise NothingMatched(
            f"the directory of {show(request.name)} in run {run.number} is not kept: it did not fail, or others failed since",
            hint="without --failed, shell gives it a fresh one",
        )
    return path


def _on_terminal(
    request: m.Shell,
    folder: Path,
    environment: dict[str, str],
    channel: Channel,
    reader: FrameReader,
    writer: FrameWriter,
) -> int:
    """Run bash, or a command, on a terminal; return its exit code."""
    master, slave = pty.openpty()
    try:
        _resize(master, request.rows, request.columns)
        process = Once(request.command, slave, folder, environment, terminal=True)
        os.close(slave)
        with contextlib.closing(process):
            _Exchange(master, channel, reader, writer).run()
            return process.wait()
    finally:
        os.close(master)


class _Exchange:
    """What is typed and what is shown at one terminal.

    Args:
        master: the end of the terminal at which a person would sit.
        channel: to the client.
        reader: reads the client's messages.
        writer: writes to the client.
    """

    def __init__(self, master: int, channel: Channel, reader: FrameReader, writer: FrameWriter) -> None:
        self._master, self._client, self._reader, self._writer = master, channel.fileno(), reader, writer
        self._typed = bytearray()
        os.set_blocking(master, False)

    def run(self) -> None:
        """Pass both on until the terminal's last process has ended.

        What is typed is read no further while the terminal does not take it, and whether the client leaves is seen also then.

        Raises:
            HostLost: the client left.
        """
        while True:
            full = len(self._typed) >= _MOST_TYPED
            ready = self._await(full=full)
            if self._client in ready and full:
                raise HostLost("the client left")
            if (self._reader.buffered or self._client in ready) and not full:
                self._take_typed()
            events = ready.get(self._master, 0)
            if events & select.POLLOUT:
                with contextlib.suppress(BlockingIOError):
                    del self._typed[: os.write(self._master, self._typed)]
            if events & ~select.POLLOUT and not self._pass_shown():
                return

    def _await(self, *, full: bool) -> dict[int, int]:
        """Wait until something can be read or written; return the events by descriptor."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN | (select.POLLOUT if self._typed else 0))
        poll.register(self._client, _LEAVES if full else select.POLLIN)
        return dict(poll.poll(0 if self._reader.buffered and not full else None))

    def _take_typed(self) -> None:
        frame = self._reader.read()
        if isinstance(frame, memoryview):
            self._typed += frame
        elif isinstance(frame, m.Resize):
            _resize(self._master, frame.rows, frame.columns)
        else:
            raise HostLost("the client left")

    def _pass_shown(self) -> bool:
        """Pass on what is shown; say whether there was anything, or the terminal's last process has ended."""
        shown = _read(self._master)
        if shown:
            self._writer.data(shown)
            self._writer.flush()
        return bool(shown)


def _read(master: int) -> bytes:
    try:
        return os.read(master, _PIECE)
    except OSError:
        # what Linux says when no process has the other end open
        return b""


def _resize(master: int, rows: int, columns: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
