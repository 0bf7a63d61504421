"""The one place that turns errors into exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

from typer import Abort, Exit, Typer
from typer._click.exceptions import ClickException

from sshmap.cli import completion, verbs_copy, verbs_data, verbs_hosts, verbs_inventory, verbs_jobs, verbs_runs
from sshmap.cli.app import app, settings
from sshmap.cli.escaping import clean, clean_lines
from sshmap.client.job_results import JobFailed
from sshmap.client.results import TransferFailed
from sshmap.errors import HostsFailed, NoSpace, NothingMatched, SshmapError, UsageError

#: importing them adds their commands to the app
VERBS = (verbs_data, verbs_copy, verbs_jobs, verbs_runs, verbs_hosts, verbs_inventory)
BROKEN_PIPE = 141


def run(arguments: list[str], typed: Typer = app, name: str = "sshmap") -> int:
    """Run one command and return its exit code, after writing out all that it printed, also where it failed.

    Args:
        arguments: as typed.
        typed: the app that reads them.
        name: what was typed before them.
    """
    asked_by_bash = os.environ.get(completion.VARIABLE) == completion.BASH
    code = completion.in_bash(lambda: _run(arguments)) if asked_by_bash else _run(arguments, typed, name)
    try:
        sys.stdout.flush()
    except OSError as exc:
        # the exit code of a failed command says more than that its output could not be written
        refused = _system_error(exc)
        return code or refused
    return code


def _run(arguments: list[str], typed: Typer = app, name: str = "sshmap") -> int:
    """Run one command, say what went wrong, and return the exit code."""
    try:
        return _command(arguments, typed, name)
    except ClickException as exc:
        exc.show()
        return exc.exit_code
    except JobFailed as exc:
        # the printer has shown all of it
        return exc.exit_code
    except TransferFailed as exc:
        # the printer has shown the failures already
        say_hint(exc)
        return exc.exit_code
    except SshmapError as exc:
        show_error(exc)
        return exc.exit_code
    except OSError as exc:
        return _system_error(exc)
    except Exception:  # noqa: BLE001  # the last place where a bug can be called one
        say("error: a bug in sshmap, please report it:")
        say(traceback.format_exc(), clean_lines)
        return SshmapError.exit_code


def _command(arguments: list[str], typed: Typer, name: str) -> int:
    try:
        result = typed(arguments, prog_name=name, standalone_mode=False)
    except Exit as exc:
        return exc.exit_code
    except Abort:
        say("nobody said yes, so nothing was done")
        return 1
    except SystemExit as exc:
        # typer's answer to a closed stdout
        if isinstance(exc.__context__, OSError):
            raise exc.__context__ from None
        return exc.code if isinstance(exc.code, int) else 1
    return result if isinstance(result, int) else 0


def _system_error(exc: OSError) -> int:
    """Say which system call failed on this machine, mostly one that writes output; return the exit code."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # nobody gets the rest
    if exc.errno == errno.EPIPE:
        return BROKEN_PIPE
    say(f"error: {exc.filename or 'output'}: {exc.strerror}")
    return NoSpace.exit_code if exc.errno in (errno.ENOSPC, errno.EDQUOT) else UsageError.exit_code


def show_error(error: SshmapError) -> None:
    """Print an error: a line for each host, then what to do next."""
    errors = error.failures.values() if isinstance(error, HostsFailed) else [error]
    for one in errors:
        say(f"error: {one}{f', on {settings.called}' if isinstance(one, NothingMatched) and settings.called else ''}")
    say_hint(error)


def say_hint(error: SshmapError) -> None:
    """Print what to do next."""
    if error.hint:
        say(f"hint: {settings.typed(error.hint)}")


def say(text: str, escape: Callable[[str], str] = clean) -> None:
    """Print a text on stderr, escaped; a text of several lines needs `clean_lines`."""
    try:
        sys.stderr.write(escape(text) + "\n")
    except (OSError, ValueError):
        return
