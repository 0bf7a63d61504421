"""The seam between a worker and the executor that runs the commands of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from sshmap.model import Force


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A Python function."""

    #: the file that defines it, and what that is called
    path: str
    file: str
    name: str
    #: directory of the packages of others that it imports; empty if there is none
    packages: str = ""
    #: shape of what it takes, see `sshmap.functions`
    verb: str
    #: equal for calls that one interpreter may make, one after the other
    identity: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One command to be run."""

    command: str
    #: the function to be called instead of running the command
    call: Call | None = None
    #: working directory
    folder: str
    stdin: str
    #: an empty file
    stdout: str
    #: environment variables of this command alone
    variables: dict[str, str] = {}
    #: its nice value
    nice: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended."""

    #: 128 and the signal's number if a signal ended it
    exit_code: int
    #: its beginning and its end, see `tail`
    stderr: bytes
    #: seconds of CPU time
    user: float = 0.0
    system: float = 0.0
    #: bytes of memory of its largest process: all it ever had, as wait4 gives it, else what was seen while it ran
    peak: int = 0


class Executor(Protocol):
    """Runs commands, one at a time."""

    def run(self, request: Request, meanwhile: Callable[[], Force]) -> Result:
        """Run one command to its end, and end what it left running.

        Args:
            request: what to run.
            meanwhile: is called if the command takes longer than `PATIENCE` seconds, again after `SECOND` and then every `LOOK` seconds;
                says whether the command is to be ended, and how.

        Raises:
            SshmapError: it could not be begun.
        """

    def close(self) -> None:
        """End all processes that run commands; the next `run` starts them again."""


#: seconds until the first look, until the second, and between later ones
PATIENCE, SECOND, LOOK = 0.02, 0.1, 0.25
