"""The first thing that runs: signals get their meaning before anything slow is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143


class Interrupted(BaseException):
    """SIGINT has come; no library between here and `main` takes it for its own."""


class Terminated(BaseException):
    """SIGTERM has come."""


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    _fill_closed_streams()
    gc.disable()  # importing makes no garbage, and looking for it takes a tenth of a quick command
    try:
        from sshmap.cli.main import run  # from here on a signal is an orderly end

        gc.freeze()
        gc.enable()
        code = run(sys.argv[1:])
    except Interrupted:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        os.write(2, b"interrupted; the hosts finish what was submitted, and the same command goes on from there\n")
        code = INTERRUPTED
    except Terminated:
        code = TERMINATED
    # what still runs are threads that wait for hosts; nothing of ours has to be finished
    os._exit(code)


def _fill_closed_streams() -> None:
    """Python has None where the caller closed a stream."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _interrupt(_: int, __: FrameType | None) -> None:
    raise Interrupted


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated
