"""The executor of shell commands: hands them to a supervisor, a process of its own, and reads their stderr."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable

from sshmap.agent.execution import supervisor
from sshmap.agent.execution.executor import PATIENCE, Request, Result
from sshmap.agent.execution.plain import plain_words
from sshmap.agent.execution.processes import kill_below
from sshmap.agent.execution.server import KILLED, LENGTH
from sshmap.agent.execution.tail import Tail
from sshmap.errors import HostNotReady

#: seconds that a supervisor may take to end what runs below it
_LIMIT = 15.0
#: seconds between two looks whether the supervisor was stopped, during a command that takes long
_STOPPED_LOOK = 1.0


class Commands:
    """Runs shell commands below a supervisor that is started with the first of them.

    The process that uses this class has to be a child sub-reaper: the children of a killed supervisor become its own.

    Args:
        environment: what commands start from.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._supervisor: _Supervisor | None = None

    def run(self, request: Request, meanwhile: Callable[[], None]) -> Result:
        """Run one command to its end, and end what it left running; the exit code is 137 if the command killed its supervisor.

        Raises:
            HostNotReady: no supervisor stays up.
        """
        for _ in range(2):
            # tried twice: a supervisor that was killed after the former command had ended is replaced
            if self._supervisor is None:
                self._supervisor = _Supervisor(self._environment)
            result = self._supervisor.run(request, meanwhile)
            if not self._supervisor.alive:
                self.close()
            if result:
                return result
        raise HostNotReady("the supervisor of commands does not stay up", hint="see logs/daemon.log below the root")

    def close(self) -> None:
        """End the supervisor and everything below it."""
        if self._supervisor:
            lost = not self._supervisor.alive
            self._supervisor.close()
            self._supervisor = None
            if lost:
                kill_below(os.getpid())


class _Supervisor:
    """A supervisor as its worker sees it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._control, control = socket.socketpair()
        self._stderr, stderr = os.pipe()
        os.set_blocking(self._stderr, False)
        with control:
            self._process = subprocess.Popen(
                supervisor.argv("serve", environment.get("SSHMAP_ROOT", ""), str(control.fileno()), str(stderr)),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment, cwd="/", pass_fds=(control.fileno(), stderr), start_new_session=True,
            )  # fmt: skip
        os.close(stderr)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)
        self._number = 0
        self.alive = True

    def run(self, request: Request, meanwhile: Callable[[], None]) -> Result | None:
        """Run one command; None if the supervisor ended before it read the request."""
        self._number += 1
        tail = Tail()
        try:
            self._control.sendall(_encode(request, self._number))
            code = self._await_code(tail, meanwhile)
        except (BrokenPipeError, ConnectionResetError):
            # a reset means that the supervisor has not read the request
            self.alive = False
            return None
        return Result(exit_code=code, stderr=tail.text())

    def _await_code(self, tail: Tail, meanwhile: Callable[[], None]) -> int:
        """Wait for the exit code; return KILLED if the supervisor ends without an answer, or answers another request."""
        limit, looked, looks = PATIENCE, time.monotonic(), 0
        while self._control.fileno() not in (ready := [fd for fd, _ in self._poll.poll(limit * 1000)]):
            if ready:
                self._drain(tail)
            # by the clock, as there may always be something to drain
            if time.monotonic() - looked < limit:
                continue
            if looks and self._is_stopped():
                self.alive = False
                return KILLED
            if not looks:
                meanwhile()
            limit, looked, looks = _STOPPED_LOOK, time.monotonic(), looks + 1
        # the answer comes after all of the command's stderr was written, so what was ready with it is all there is
        if self._stderr in ready:
            self._drain(tail)
        number, _, code = self._control.recv(64).partition(b" ")
        if number == b"%d" % self._number:
            return int(code)
        self.alive = False
        return KILLED

    def _is_stopped(self) -> bool:
        """Say whether a signal, which its command may have sent, keeps the supervisor from going on."""
        if not hasattr(os, "waitid"):
            # macOS before Python 3.13
            return False
        found = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return found is not None and found.si_code == os.CLD_STOPPED

    def _drain(self, tail: Tail) -> None:
        for _ in range(64):
            try:
                piece = os.read(self._stderr, 65536)
            except BlockingIOError:
                return
            if not piece:
                return
            tail.add(piece)

    def close(self) -> None:
        """End the supervisor and everything below it."""
        self._control.close()
        os.close(self._stderr)
        if not self.alive:
            self._process.kill()
        try:
            self._process.wait(_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _encode(request: Request, number: int) -> bytes:
    mark = str(number)
    variables = [f"{name}={value}" for name, value in request.variables.items()]
    fields = (
        mark, request.folder, request.stdin, request.stdout, request.command, str(len(variables)),
        *variables, *plain_words(request.command), mark,
    )  # fmt: skip
    content = b"".join([field.encode() + b"\0" for field in fields])
    return len(content).to_bytes(LENGTH, "big") + content
