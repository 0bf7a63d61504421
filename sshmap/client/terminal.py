"""Bash on a host, on this process's terminal: what is typed goes there as it is, what is shown comes back as it is."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from sshmap.client.commands import pass_on
from sshmap.client.conversations import Conversations
from sshmap.errors import UsageError
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

_PIECE = 16384


def run_bash(conversations: Conversations, host: str, request: m.Shell, out: BinaryIO) -> int:
    """Run bash on a host until it ends; return its exit code.

    Raises:
        UsageError: stdin is no terminal.
        HostLost: the host does not answer any more.
    """
    if not sys.stdin.isatty():
        raise UsageError("shell needs a terminal", hint="give a command instead: sshmap shell KEY -c CMD")
    typed = sys.stdin.fileno()
    size = os.get_terminal_size(typed)
    asked = msgspec.structs.replace(
        request, rows=max(1, size.lines), columns=size.columns, terminal=os.environ.get("TERM", "")[:64]
    )
    # a session of its own, as what is typed last may be on its way when bash ends
    with contextlib.closing(conversations.open(host)) as session, _raw(typed):
        session.begin(asked, m.Exited, m.Problem)
        with _typing(typed, session):
            return pass_on(session, out, out)


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Have a terminal pass on all that is typed, Ctrl-C too."""
    before = termios.tcgetattr(terminal)
    # what was typed ahead is not discarded
    tty.setraw(terminal, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _typing(terminal: int, session: Session) -> Iterator[None]:
    """Send what is typed, and each new size of the terminal, until this is left."""
    over, end = os.pipe()

    def send() -> None:
        with contextlib.suppress(OSError):
            while over not in select.select([terminal, over], [], [])[0]:
                if not (piece := os.read(terminal, _PIECE)):
                    return
                session.writer.data(piece)
                session.writer.flush()

    def resize(*_: object) -> None:
        size = os.get_terminal_size(terminal)
        session.writer.message(m.Resize(rows=size.lines, columns=size.columns))

    former = signal.signal(signal.SIGWINCH, resize)
    thread = threading.Thread(target=send, name="typing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, former)
        os.write(end, b"!")
        thread.join(1.0)
        for fd in (over, end):
            os.close(fd)
