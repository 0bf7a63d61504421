"""A command that is run once for a session, in a bash of its own, and ended with the session."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from sshmap.agent.execution import supervisor

PREAMBLE = "set -euo pipefail"


class Once:
    """A command run once; the caller reads its stdout and stderr from descriptors.

    Args:
        command: the shell command.
        stdin: descriptor it reads from.
        folder: its working directory.
        environment: its whole environment.
        terminal: stdin is a terminal, on which the command also writes; without a command, bash reads commands from it.
    """

    def __init__(
        self, command: str, stdin: int, folder: Path, environment: dict[str, str], *, terminal: bool = False
    ) -> None:
        watch_read, self._watch = os.pipe()
        text = ("-c", f"{PREAMBLE}\n{command}", "bash") if command or not terminal else ("-i",)
        out = stdin if terminal else subprocess.PIPE
        self._process = subprocess.Popen(
            supervisor.argv(
                "terminal" if terminal else "watch", environment.get("SSHMAP_ROOT", ""), str(watch_read),
                "bash", "--norc", "--noprofile", *text,
            ),
            stdin=stdin, stdout=out, stderr=out, env=environment, cwd=folder,
            pass_fds=(watch_read,), start_new_session=True, bufsize=0,
        )  # fmt: skip
        os.close(watch_read)
        self.stdout, self.stderr = (
            pipe.fileno() if pipe else -1 for pipe in (self._process.stdout, self._process.stderr)
        )
        self._lock = threading.Lock()

    def wait(self) -> int:
        """Return the exit code, 128 and the signal's number if it was killed."""
        return self._process.wait()

    def close(self) -> None:
        """End it and everything below it; repeating is harmless."""
        with self._lock:
            if self._watch >= 0:
                os.close(self._watch)
                self._watch = -1
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
