"""Where the process begins: handlers for signals are set before anything slow is imported."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from sshmap.errors import Interrupted

INTERRUPTED = 130
#: seconds after a signal in which what was printed may still be written out
LAST_SECOND = 1.0


class Terminated(BaseException):
    """SIGTERM or SIGHUP has come.

    Args:
        code: exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    run(_command_line)


def _command_line() -> int:
    gc.disable()  # importing makes no garbage, and looking for it takes a tenth of a quick command
    from sshmap.cli.main import (
        run as run_command,  # the first slow import; a signal during it raises Interrupted or Terminated
    )

    gc.freeze()
    gc.enable()
    return run_command(sys.argv[1:])


def run(call: Callable[[], int]) -> NoReturn:
    """Make a call that returns an exit code, in the way in which commands answer signals, and end the process with it."""
    try:
        signal.signal(signal.SIGINT, _interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _terminate)
        _prepare_streams()
        # threads that wait for hosts may still run; they have nothing to finish
        os._exit(call())
    except Interrupted:
        _hurry(INTERRUPTED)
        os.write(2, b"interrupted\n")
        code = _spoken(INTERRUPTED)
    except Terminated as exc:
        _hurry(exc.code)
        code = _spoken(exc.code)
    os._exit(code)


def _hurry(code: int) -> None:
    """End the process at the next signal or after `LAST_SECOND`, so that a reader of stdout that does not read cannot hold it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, lambda *_: os._exit(code))
    signal.setitimer(signal.ITIMER_REAL, LAST_SECOND)


def _spoken(code: int) -> int:
    """Write out what was printed before the signal, and return the exit code."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code


def _prepare_streams() -> None:
    """Replace streams that the caller closed: stdin by an empty one, stdout by one that cannot be written; let all names be printed."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        # opened for reading, so that printing is an error, and a command that prints nothing succeeds
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _interrupt(_: int, __: FrameType | None) -> None:
    raise Interrupted


def _terminate(number: int, _: FrameType | None) -> None:
    raise Terminated(128 + number)
