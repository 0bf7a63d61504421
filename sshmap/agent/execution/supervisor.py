"""The process between a worker or session and the commands it runs; when that ends, no command below it survives.

The supervisor is a child sub-reaper (Linux's prctl(2)), so a process that forks twice or opens
a session of its own still ends up below it. When the other end of its socket or pipe is closed,
also because the worker or session was killed, it kills everything below itself and exits. It does one of two things: ``serve``
starts one command after the other for a worker, ``watch`` runs one program for a session, and ``terminal`` one that has a terminal.

Runs as a script with the standard library only, so that it starts in a few milliseconds.
Rejected: killing the process group, which a command leaves by setsid(2); control groups,
which need root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

if __name__ == "__main__":
    # a script has to find the package it lies in itself: this is sshmap/agent/execution/supervisor.py
    sys.path.insert(0, os.path.abspath(os.path.join(__file__, *[os.pardir] * 4)))

from sshmap.agent.execution.processes import RESET, become_subreaper, exit_code, kill_below
from sshmap.agent.execution.server import Server, end_all

_SET_PDEATHSIG = 1


def argv(mode: str, root: str, *words: str) -> list[str]:
    """Return the command line of a supervisor; the root is there for who looks at the list of processes."""
    return [sys.executable, "-I", "-S", __file__, mode, root, *words]


def serve(words: list[str]) -> None:
    """Run commands for a worker; the descriptors of its socket and of stderr are the arguments."""
    control, stderr = int(words[0]), int(words[1])
    for fd in (control, stderr):
        os.set_inheritable(fd, False)  # noqa: FBT003  # takes no name
    Server(control, stderr).serve()
    end_all()


def watch(words: list[str], *, terminal: bool = False) -> None:
    """Run the program ``words[1:]``; kill it and everything below it when the other end of the pipe ``words[0]`` is closed.

    Args:
        words: descriptor of the pipe, and the program's command line.
        terminal: whether stdin is a terminal that the program is to have as its own.
    """
    pipe = int(words[0])
    child = os.fork()
    if child == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.close(pipe)
        if terminal:
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))
        for number in RESET:
            signal.signal(number, signal.SIG_DFL)
        os.execvp(words[1], words[1:])
    threading.Thread(target=_watch, args=(pipe,), daemon=True).start()
    status = 1
    while True:
        try:
            pid, status_now = os.wait()
        except ChildProcessError:
            break
        if pid == child:
            status = exit_code(status_now)
            threading.Thread(target=kill_below, args=(os.getpid(),), daemon=True).start()
    os._exit(status)


def _watch(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    end_all()


if __name__ == "__main__":
    become_subreaper()
    if sys.argv[1] == "serve":
        serve(sys.argv[3:])
    else:
        watch(sys.argv[3:], terminal=sys.argv[1] == "terminal")
