"""The interpreter of one supervisor that runs Python functions, as the supervisor sees it. Standard library only."""

from __future__ import annotations

import os
import select
import sys

from sshmap.agent.execution.bash import Command, Ended, unnamed_file
from sshmap.agent.execution.processes import RESET, MainChildren, kill

_RUNNER = os.path.join(os.path.dirname(__file__), "runner.py")


class Python:
    """An interpreter for the functions of one file.

    Args:
        environment: what functions start from.
        stderr: where their stderr goes.
        command: the first call; others are to be of the same file with the same nice value.
    """

    def __init__(self, environment: dict[bytes, bytes], stderr: int, command: Command) -> None:
        ring, self._ring = os.pipe()
        self.reply, reply = os.pipe()
        self._request = unnamed_file()
        self.identity, self.nice = command.identity, command.nice
        #: begins the answer to the present request: no earlier call can have known it and answered in advance
        self._token = b""
        #: whether it wants to be replaced, before another one is called
        self.worn = False
        #: wait status, if it has ended or stopped
        self.ended: int | None = None
        null = os.open(os.devnull, os.O_RDWR)
        wanted = (null, null, stderr, ring, reply, null, self._request)
        high = [(os.POSIX_SPAWN_DUP2, fd, 100 + to) for to, fd in enumerate(wanted)]
        low = [(os.POSIX_SPAWN_DUP2, 100 + to, to) for to in range(len(wanted))]
        closed = [(os.POSIX_SPAWN_CLOSE, 100 + to) for to in range(len(wanted))]
        os.chdir("/")
        self.pid = os.posix_spawn(
            sys.executable, [sys.executable, "-B", _RUNNER], environment, file_actions=[*high, *low, *closed], setpgroup=0,
            setsigdef=RESET,
        )  # fmt: skip
        #: what its calls have left running; one that has left a thread is replaced anyway
        self.children = MainChildren(self.pid)
        if self.nice:
            os.setpriority(os.PRIO_PROCESS, self.pid, self.nice)
        for fd in (ring, reply, null):
            os.close(fd)
        self.poll = select.poll()
        self.poll.register(self.reply, select.POLLIN)

    def serves(self, command: Command) -> bool:
        """Say whether it can run a command, too."""
        return self.ended is None and (self.identity, self.nice) == (command.identity, command.nice)

    def begin(self, command: Command) -> None:
        """Hand over a call.

        Raises:
            OSError: the interpreter is gone.
        """
        self._token = os.urandom(8).hex().encode()
        fields = (
            self._token, command.folder, command.stdin, command.stdout, *command.words, *command.variables, self._token,
        )  # fmt: skip
        content = b"".join(field + b"\0" for field in fields)
        os.pwrite(self._request, content, 0)
        os.ftruncate(self._request, len(content))
        os.write(self._ring, self._token + b"\n")

    def result(self) -> Ended | None:
        """Read how a call ended; None if the interpreter is gone, or answers to something else."""
        token, *figures = os.read(self.reply, 128).split() or [b""]
        if token != self._token or len(figures) != 5 or not all(figure.isdigit() for figure in figures):
            return None
        code, user, system, peak, worn = map(int, figures)
        self.worn = bool(worn)
        return Ended(code, user, system, peak)

    def end(self) -> None:
        """Kill it and close its pipes and its file."""
        kill(self.pid)
        self.children.close()
        for fd in (self._ring, self.reply, self._request):
            os.close(fd)
