"""Where the command line begins and ends: the one place that turns errors into exit codes."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from typer import Abort, Exit
from typer._click.exceptions import ClickException

from sshmap.cli import verbs_data, verbs_hosts, verbs_jobs
from sshmap.cli.app import app
from sshmap.cli.printers import clean
from sshmap.client.results import JobFailed
from sshmap.errors import HostsFailed, SshmapError

#: importing them adds their commands to the app
VERBS = (verbs_data, verbs_jobs, verbs_hosts)
INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141


class Terminated(BaseException):
    """SIGTERM has come."""


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    # what is still running are threads that wait for hosts; nothing of ours has to be finished
    sys.stderr.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        result = app(arguments, prog_name="sshmap", standalone_mode=False)
    except Exit as exc:
        return exc.exit_code
    except ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, Abort):
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        say("interrupted; the hosts finish what was submitted, and the same command goes on from there")
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    except BrokenPipeError:
        return BROKEN_PIPE
    except SshmapError as exc:
        show_error(exc)
        return exc.exit_code
    return result if isinstance(result, int) else 0


def show_error(error: SshmapError) -> None:
    """Print an error: one line, further hosts below, then what to do next."""
    if isinstance(error, JobFailed):
        hint = error.hint
    elif isinstance(error, HostsFailed):
        for failure in error.failures.values():
            say(f"error: {failure}")
        hint = error.hint
    else:
        say(f"error: {error}")
        hint = error.hint
    if hint:
        say(f"hint: {hint}")


def say(text: str) -> None:
    """Print a line on stderr, with control characters made visible."""
    try:
        sys.stderr.write(clean(text) + "\n")
    except (OSError, ValueError):
        return


def _terminate(_: int, __: FrameType | None) -> None:
    raise Terminated
