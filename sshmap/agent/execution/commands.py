"""The executor of shell commands: hands them to a supervisor, a process of its own, and reads their stderr."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from sshmap.agent.execution import supervisor
from sshmap.agent.execution.executor import LOOK, PATIENCE, SECOND, Request, Result
from sshmap.agent.execution.plain import plain_words
from sshmap.agent.execution.processes import below, kill_below, largest
from sshmap.agent.execution.server import GRACE, KILLED, LENGTH
from sshmap.agent.execution.tail import Tail
from sshmap.errors import HostNotReady
from sshmap.model import Force

#: seconds that a supervisor may take to end what runs below it
_LIMIT = 15.0
#: seconds after SIGKILL was due in which a supervisor has to have ended a command
_OVERDUE = 1.5
#: seconds after which it is looked whether the supervisor was stopped
_STOPPED = 1.0
#: numbers in an answer behind that of the request
_FIGURES = 4


class Commands:
    """Runs shell commands below a supervisor that is started with the first of them.

    The process that uses this class has to be a child sub-reaper: the children of a killed supervisor become its own.

    Args:
        environment: what commands start from.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._supervisor: _Supervisor | None = None

    def run(self, request: Request, meanwhile: Callable[[], Force]) -> Result:
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

    def run(self, request: Request, meanwhile: Callable[[], Force]) -> Result | None:
        """Run one command; None if the supervisor ended before it read the request."""
        self._number += 1
        tail = Tail()
        try:
            self._control.sendall(_encode(request, self._number))
            code, user, system, peak = self._await_end(tail, meanwhile)
        except (BrokenPipeError, ConnectionResetError):
            # a reset means that the supervisor has not read the request
            self.alive = False
            return None
        return Result(exit_code=code, stderr=tail.text(), user=user / 1e6, system=system / 1e6, peak=peak)

    def _await_end(self, tail: Tail, meanwhile: Callable[[], Force]) -> tuple[int, int, int, int]:
        """Wait for exit code, CPU time and memory; KILLED if the supervisor ends without an answer, or answers another request."""
        looks = _Looks(self._process.pid, meanwhile)
        while self._control.fileno() not in (ready := [fd for fd, _ in self._poll.poll(looks.pause * 1000)]):
            if ready:
                self._drain(tail)
            if looks.are_due() and ((looks.seconds > _STOPPED and self._is_stopped()) or not looks.look()):
                self.alive = False
                return KILLED, 0, 0, looks.peak
        # the answer comes after all of the command's stderr was written, so what was ready with it is all there is
        if self._stderr in ready:
            self._drain(tail)
        return self._answer(looks.peak)

    def _answer(self, peak: int) -> tuple[int, int, int, int]:
        """Read the supervisor's answer, or find out that there is none.

        Args:
            peak: bytes of memory as they were seen, for where the answer does not say.
        """
        number, *numbers = self._control.recv(128).split() or [b""]
        if number == b"%d" % self._number and len(numbers) == _FIGURES:
            code, user, system, exactly = map(int, numbers)
            return code, user, system, exactly << 10 or peak
        self.alive = False
        return KILLED, 0, 0, peak

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


class _Looks:
    """Looks now and then at a command that takes long: how much memory it has, and whether it has to be ended.

    Args:
        supervisor: process id.
        meanwhile: says whether the command has to be ended.
    """

    def __init__(self, supervisor: int, meanwhile: Callable[[], Force]) -> None:
        self._supervisor, self._meanwhile = supervisor, meanwhile
        #: seconds until the next look
        self.pause = PATIENCE
        self._began = self._last = time.monotonic()
        self._count = 0
        #: bytes of memory of the command's largest process, as far as was seen
        self.peak = 0
        self._asked, self._overdue = Force.WAIT, 0.0

    def are_due(self) -> bool:
        """Say whether it is time for a look; by the clock, as there may always be some stderr to read."""
        return time.monotonic() - self._last >= self.pause

    @property
    def seconds(self) -> float:
        """Seconds since the command began."""
        return time.monotonic() - self._began

    def look(self) -> bool:
        """Have the supervisor end the command if it has to be; say whether the supervisor does what it was asked to."""
        if self._asked and time.monotonic() > self._overdue:
            return False
        self._count += 1
        force = self._meanwhile()
        if force > self._asked:
            self._asked = force
            self._overdue = time.monotonic() + (GRACE if force is Force.TERM else 0.0) + _OVERDUE
            os.kill(self._supervisor, signal.SIGUSR1 if force is Force.TERM else signal.SIGUSR2)
        if self._count > 1:
            # not at once, as it takes as long as a quick command does
            self.peak = max(self.peak, largest(below(self._supervisor)))
        self.pause, self._last = (LOOK if self._count > 1 else SECOND), time.monotonic()
        return True


def _encode(request: Request, number: int) -> bytes:
    mark = str(number)
    variables = [f"{name}={value}" for name, value in request.variables.items()]
    call = request.call
    words = (call.path, call.file, call.name, call.verb, call.packages) if call else plain_words(request.command)
    fields = (
        mark, request.folder, request.stdin, request.stdout, request.command, str(request.nice),
        call.identity if call else "", str(len(variables)), *variables, *words, mark,
    )  # fmt: skip
    content = b"".join([field.encode() + b"\0" for field in fields])
    return len(content).to_bytes(LENGTH, "big") + content
