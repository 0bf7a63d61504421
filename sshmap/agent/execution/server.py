"""The supervisor's work for a worker: start one command after the other, and end what each leaves running.

A request is its length in 4 bytes and the fields of `bash.Command`, each ended by NUL. The answer is a line: the number of
the request, the exit code, the microseconds of CPU time in user mode and in the system, and the KiB of memory of the
largest process, 0 where that is not known. SIGUSR1 makes the supervisor end the present command: SIGTERM to all its
processes, SIGKILL after `GRACE` seconds; SIGUSR2 kills them at once. Standard library only.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading
import time

from sshmap.agent.execution.bash import Bash, Command, Ended
from sshmap.agent.execution.processes import RESET, MainChildren, below, exit_code, kill, kill_below
from sshmap.agent.execution.python import Python

#: exit code of a command whose shell was killed with it
KILLED = 128 + signal.SIGKILL
_CRASHED = b"sshmap: the interpreter that ran the function was ended\n"
_LOST = b"sshmap: the command ended or stopped the shell that ran it\n"
#: Seconds. A command after one that took less is run without its exact figures, as they cost what is a tenth of the quickest.
_QUICK = 0.02
#: bytes that hold the length of a request
LENGTH = 4
#: what wait4 counts memory in, as a part of a KiB
_PER_KIB = 1024 if sys.platform == "darwin" else 1
#: seconds between SIGTERM and SIGKILL, and then between one SIGKILL and the next, as there may be new processes
GRACE, _AGAIN = 5.0, 0.05


class Server:
    """Runs a worker's commands, one at a time.

    A plain program is started directly. A command that a shell has to read is run by bash; so is a program that
    cannot be started, as bash then says why. After each command everything that it left running is killed.

    Args:
        control: socket to the worker; requests come in, numbers and exit codes go out.
        stderr: descriptor of the commands' stderr.
    """

    def __init__(self, control: int, stderr: int) -> None:
        self._control, self._stderr = control, stderr
        self._environment = dict(os.environb)
        self._path = self._environment.get(b"PATH", b"").split(b":")
        self._woken, self._waking = os.pipe()
        for fd in (self._woken, self._waking):
            os.set_blocking(fd, False)
        self._children = MainChildren(os.getpid())
        self._shell: Bash | None = None
        self._python: Python | None = None
        #: whether the interpreter runs the present command
        self._calls = False
        #: by process id, how children have ended since the present command began
        self._reaped: dict[int, Ended] = {}
        #: whether the shell's last command was quick
        self._quick = False
        signal.signal(signal.SIGTERM, _on_term)
        signal.signal(signal.SIGUSR1, lambda *_: self._end_present(signal.SIGTERM, GRACE))
        for number in (signal.SIGUSR2, signal.SIGALRM):
            signal.signal(number, lambda *_: self._end_present(signal.SIGKILL, _AGAIN))
        #: whether a timer runs that ends the present command
        self._ends = False
        threading.Thread(target=_watch_worker, args=(control,), daemon=True).start()

    def serve(self) -> None:
        """Run the commands that the worker asks for, until the worker has ended."""
        while request := self._receive():
            command = Command(request[:-1].split(b"\0"))
            # a signal that was meant for the command before may have come after its end
            self._spare_present()
            self._reaped.clear()
            ended = self._run(command)
            self._end_leftovers(thorough=ended.code >= 128)
            self._spare_present()
            os.write(self._control, b"%s %d %d %d %d\n" % (command.number, *ended.figures))

    def _spare_present(self) -> None:
        """End no command any more, until the next signal."""
        if self._ends:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._ends = False

    def _end_present(self, number: int, pause: float) -> None:
        """Send a signal to all processes of the present command, and SIGKILL if some are left after so many seconds."""
        self._ends = True
        signal.setitimer(signal.ITIMER_REAL, pause, _AGAIN)
        spare = self._spare()
        for pid in below(os.getpid()):
            if pid not in spare:
                kill(pid, number)

    def _spare(self) -> tuple[int, ...]:
        """Return the processes that are no command's: bash, as a subshell runs it, and an interpreter that runs none now."""
        idle = [self._shell, None if self._calls else self._python]
        return tuple(process.pid for process in idle if process)

    def _receive(self) -> bytes:
        """Read one request; nothing if the worker has ended. The worker sends no other one before it has the answer."""
        content = b""
        while len(content) < LENGTH or len(content) < LENGTH + int.from_bytes(content[:LENGTH], "big"):
            piece = os.read(self._control, 65536)
            if not piece:
                return b""
            content += piece
        return content[LENGTH:]

    def _run(self, command: Command) -> Ended:
        if command.identity:
            return self._run_in_python(command)
        # a nice value has to be set before the program begins, as that of bash is
        pid = self._start_program(command) if command.words and not command.nice else 0
        return self._await_program(pid) if pid else self._run_in_shell(command)

    def _start_program(self, command: Command) -> int:
        """Start a plain program as bash would, in a process group of its own; 0 if bash has to run it."""
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
        """Look a program up in PATH; nothing if bash has to, as it is missing or PATH is no plain list of directories."""
        if b"/" in name:
            return name
        if not all(folder.startswith(b"/") for folder in self._path):
            return b""
        for folder in self._path:
            path = folder + b"/" + name
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
        return b""

    def _await_program(self, pid: int) -> Ended:
        while pid not in self._reaped:
            self._note(*os.wait4(-1, os.WUNTRACED))
        return self._reaped[pid]

    def _run_in_shell(self, command: Command) -> Ended:
        self._reap()
        if self._shell and (self._shell.ended is not None or self._shell.nice != command.nice):
            self._end_shell(self._shell)
        if self._shell is None:
            self._shell = Bash(self._environment, self._stderr, command.nice)
            self._watch(self._shell)
        shell, began = self._shell, time.monotonic()
        try:
            ended = self._hand_over(shell, command)
        except OSError:
            ended = None
        self._quick = time.monotonic() - began < _QUICK
        if ended is None:
            ended = Ended(self._end_shell(shell))
            os.write(self._stderr, _LOST)
        return ended

    def _hand_over(self, shell: Bash, command: Command) -> Ended | None:
        """Have bash run a command to its end; None if bash is gone, or answers to something else.

        Raises:
            OSError: bash is gone.
        """
        gives = not self._quick and sys.platform == "linux"
        shell.begin(command, gives=gives)
        if not self._await(shell):
            return None
        if not gives:
            return shell.result(command)
        pid = shell.given(command)
        if not pid:
            return None
        shell.start(command)
        ended = self._await_program(pid)
        if not self._is_there(shell):
            self._end_shell(shell)
        return ended

    def _is_there(self, shell: Bash) -> bool:
        """Say whether bash was neither killed nor stopped while it had given its command away."""
        try:
            shell.ask()
            return self._await(shell) and shell.has_answered()
        except OSError:
            return False

    def _run_in_python(self, command: Command) -> Ended:
        """Have an interpreter call a function; one that has imported its file already, if there is such."""
        self._reap()
        if self._python and not self._python.serves(command):
            self._end_python(self._python)
        if self._python is None:
            self._python = Python(self._environment, self._stderr, command)
            self._watch(self._python)
        python, self._calls = self._python, True
        try:
            python.begin(command)
            ended = python.result() if self._await(python) else None
        except OSError:
            ended = None
        self._calls = False
        if ended is None:
            ended = Ended(self._end_python(python))
            os.write(self._stderr, _CRASHED)
        elif python.worn or python.children.pids():
            # now, as a thread that the call has left could still write to its output; processes become this one's children
            self._end_python(python)
        return ended

    def _watch(self, process: Bash | Python) -> None:
        """From now on SIGCHLD tells when bash or an interpreter ends or is stopped."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        process.poll.register(self._woken, select.POLLIN)

    def _await(self, process: Bash | Python) -> bool:
        """Wait for the answer of bash or an interpreter; say whether there is one, and it was not killed or stopped."""
        while process.ended is None:
            ready = [fd for fd, _ in process.poll.poll()]
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if process.reply in ready:
                return True
        return False

    def _end_shell(self, shell: Bash) -> int:
        """End a bash that was killed, stopped or gave a wrong answer; return the exit code of its last command."""
        self._reap()
        self._shell = None
        return self._end(shell)

    def _end_python(self, python: Python) -> int:
        """End an interpreter that was killed, stopped, is worn out or has another file; return the exit code of its last call."""
        self._reap()
        self._python = None
        return self._end(python)

    def _end(self, process: Bash | Python) -> int:
        process.end()
        if not self._shell and not self._python:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return KILLED if process.ended is None else exit_code(process.ended) or KILLED

    def _reap(self) -> bool:
        """Reap children that have ended, among them orphans of commands; say whether a child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self._note(pid, status, usage)

    def _note(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        """Remember how a child has ended or was stopped: one of the present command's may be reaped before it is waited for."""
        self._reaped[pid] = Ended(
            exit_code(status), int(usage.ru_utime * 1e6), int(usage.ru_stime * 1e6), usage.ru_maxrss // _PER_KIB
        )
        for process in (self._shell, self._python):
            if process and pid == process.pid:
                process.ended = status

    def _end_leftovers(self, *, thorough: bool) -> None:
        """Kill what a command left running.

        Args:
            thorough: look below bash too, where a stopped command stays.
        """
        if not self._reap():
            return
        spare = self._spare()
        if thorough or sorted(self._children.pids()) != sorted(spare):
            kill_below(os.getpid(), spare)


def _on_term(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_all()


def _watch_worker(control: int) -> None:
    """Wait until the worker has ended, then send the main thread SIGTERM, which makes it call `end_all`."""
    poll = select.poll()
    poll.register(control, 0)
    # elsewhere nothing tells of a hang-up alone
    parent, pause = os.getppid(), None if sys.platform == "linux" else 1000
    while not poll.poll(pause) and os.getppid() == parent:
        continue
    while True:
        # again and again, as the main thread may have been about to wait when the signal came
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(0.02)


def end_all() -> None:
    """Kill everything below this process and end it."""
    kill_below(os.getpid())
    os._exit(KILLED)
