"""The real command, as a process of its own, on a built-in local cluster that lies below a test's own directory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import end_processes, processes_below, wait_until

#: seconds one command may take
LIMIT = 60
COMMAND = (sys.executable, "-m", "sshmap")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """Its stdout as lines."""
        return self.out.decode().splitlines()


class CommandLine:
    """Runs commands in a directory of their own, with nothing of the user's in their environment.

    Args:
        folder: working directory; state and home lie below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SSHMAP_", "XDG_"))}
        self.environment = {
            **clean, "HOME": str(folder / "home"), "XDG_STATE_HOME": str(self.state), "XDG_CONFIG_HOME": str(folder / "config"),
            "TERM": "dumb", "PATH": f"{self._programs()}:{clean['PATH']}",
        }  # fmt: skip

    def _programs(self) -> Path:
        """Make a directory in which `sshmap` is the package under test."""
        programs = self.folder / "programs"
        programs.mkdir()
        script = programs / "sshmap"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sshmap "$@"\n')
        script.chmod(0o755)
        (self.folder / "home").mkdir()
        return programs

    def __call__(self, *arguments: object, stdin: bytes = b"", **variables: str) -> Done:
        """Run sshmap with some arguments and environment variables."""
        return self._run([*COMMAND, *map(str, arguments)], stdin, variables)

    def shell(self, line: str) -> Done:
        """Run a line as it is typed."""
        return self._run(["bash", "-c", line], b"", {})

    def _run(self, command: list[str], stdin: bytes, variables: dict[str, str]) -> Done:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **variables},
            timeout=LIMIT,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def succeed(self, *arguments: object, stdin: bytes = b"") -> Done:
        """Run sshmap and look that it exits with 0."""
        done = self(*arguments, stdin=stdin)
        assert done.code == 0, done.err
        return done

    def finish(self) -> None:
        """Delete every cluster that was used; an error if something is left running."""
        clusters = self.state / "sshmap" / "local"
        used = [entry.name for entry in clusters.iterdir()] if clusters.exists() else []
        try:
            for size in used:
                self.succeed("--local", size, "down", "--purge", "-y")
            wait_until(lambda: not processes_below(self.folder), what="processes are left")
        finally:
            end_processes(self.folder)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line of the test's own."""
    (tmp_path / "typed").mkdir()
    commandline = CommandLine(tmp_path / "typed")
    yield commandline
    commandline.finish()
