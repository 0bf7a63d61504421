"""The supervisor at work for a worker: starts one command after the other, and ends what each leaves behind.

A request is its length in 4 bytes and the fields of `bash.Command`, each ended by NUL. The answer is a line:
the number of the request and the exit code. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal

from sshmap.agent.execution.bash import Bash, Command
from sshmap.agent.execution.processes import RESET, children_of_thread, exit_code, has_children, kill_below

#: exit code of a command whose shell was killed with it
KILLED = 128 + signal.SIGKILL
_LOST = b"sshmap: the command ended or stopped the shell that ran it\n"
#: bytes that hold the length of a request
LENGTH = 4


class Server:
    """Runs a worker's commands, one at a time.

    A plain program is started directly; whatever a shell has to look at, and what cannot be started, is left to bash,
    which says why. After each command everything that it left running is killed.

    Args:
        control: socket to the worker; requests come in, numbers and exit codes go out.
        stderr: what the commands have as stderr.
    """

    def __init__(self, control: int, stderr: int) -> None:
        self._control, self._stderr = control, stderr
        self._environment = dict(os.environb)
        self._path = self._environment.get(b"PATH", b"").split(b":")
        self._woken, waking = os.pipe()
        for fd in (self._woken, waking):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        self._shell: Bash | None = None
        #: wait status of the children that have ended or stopped and were not asked about yet
        self._ended: dict[int, int] = {}

    def serve(self) -> None:
        """Run what is asked for until the worker is gone."""
        while request := self._receive():
            command = Command(request[:-1].split(b"\0"))
            code = self._run(command)
            self._end_leftovers(thorough=code >= 128)
            os.write(self._control, b"%s %d\n" % (command.number, code))

    def _receive(self) -> bytes:
        """Read a request whole; nothing if the worker is gone."""
        size = int.from_bytes(self._read(LENGTH), "big")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            piece = os.read(self._control, size - len(content))
            if not piece:
                return b""
            content += piece
        return content

    def _run(self, command: Command) -> int:
        pid = self._start_program(command) if command.words else 0
        return self._await_program(pid) if pid else self._run_in_shell(command)

    def _start_program(self, command: Command) -> int:
        """Start a plain program as bash would, in a process group of its own; 0 if bash has to look at it."""
        path = self._find(command.words[0])
        if not path:
            return 0
        environment = self._environment | dict(variable.split(b"=", 1) for variable in command.variables)
        environment |= {b"PWD": command.folder, b"SHLVL": b"0", b"_": path}
        try:
            os.chdir(command.folder)
            return os.posix_spawn(
                path, command.words, environment, setpgroup=0, setsigdef=RESET,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, command.stdin, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, command.stdout, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._stderr, 2),
                ],
            )  # fmt: skip
        except OSError:
            return 0

    def _find(self, name: bytes) -> bytes:
        """Look a program up in PATH; nothing if bash has to, as it is not there or PATH is no plain list of directories."""
        if b"/" in name:
            return name
        if not all(folder.startswith(b"/") for folder in self._path):
            return b""
        for folder in self._path:
            path = folder + b"/" + name
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
        return b""

    def _await_program(self, pid: int) -> int:
        while pid not in self._ended:
            self._wait(-1)
        return exit_code(self._ended.pop(pid))

    def _run_in_shell(self, command: Command) -> int:
        self._reap()
        if self._shell and self._shell.pid in self._ended:
            self._end_shell(self._shell)
        shell = self._shell = self._shell or Bash(self._environment, self._stderr)
        try:
            shell.begin(command)
            code = self._await_shell(shell, command)
        except OSError:
            code = None
        if code is None:
            code = self._end_shell(shell)
            os.write(self._stderr, _LOST)
        return code

    def _await_shell(self, shell: Bash, command: Command) -> int | None:
        """Wait for the answer of bash; None if it was killed or stopped, or if it answers to something else."""
        while shell.pid not in self._ended:
            if self._wait(shell.reply):
                return shell.result(command)
        return None

    def _end_shell(self, shell: Bash) -> int:
        """End a bash that cannot be relied on, and return the exit code of the command that was its last one."""
        self._reap()
        status = self._ended.pop(shell.pid, None)
        shell.end()
        self._shell = None
        return KILLED if status is None else exit_code(status) or KILLED

    def _wait(self, reply: int) -> bool:
        """Wait until a child has ended or bash has answered; say whether it was bash. Ends this process with the worker."""
        poll = select.poll()
        for fd in (self._control, self._woken, *([reply] if reply >= 0 else [])):
            poll.register(fd, select.POLLIN)
        ready = dict(poll.poll())
        if self._control in ready:
            end_all()
        if self._woken in ready:
            os.read(self._woken, 4096)
            self._reap()
        return reply in ready

    def _reap(self) -> None:
        """Note which children have ended or stopped; orphans of commands are among them."""
        self._ended = {pid: status for pid, status in self._ended.items() if self._shell and pid == self._shell.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if not pid:
                return
            self._ended[pid] = status

    def _end_leftovers(self, *, thorough: bool) -> None:
        """Kill what a command left running.

        Args:
            thorough: look below bash too, where a stopped command stays.
        """
        spare = (self._shell.pid,) if self._shell else ()
        if not spare and not has_children():
            return
        if thorough or [int(pid) for pid in children_of_thread(os.getpid(), str(os.getpid()))] != [*spare]:
            kill_below(os.getpid(), spare)


def end_all() -> None:
    """Kill everything below this process and end it."""
    kill_below(os.getpid())
    os._exit(KILLED)
