"""A long-lived bash per worker that forks a subshell per task.

Starting bash costs more than most commands on small keys; a fork of a running one costs a
third. The loop in `_LOOP` reads one byte per task, takes what to do from a request file
(NUL-separated, so no name ever becomes shell text), runs it in a subshell with a process
group of its own and writes the exit code back. A supervisor stands between, see `supervisor`.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import sys
import termios
from pathlib import Path

import msgspec

from sshmap.agent.execution import supervisor

#: bytes of stderr kept from the beginning and from the end
KEPT = 4096
_LOOP = r"""
set -m;
while IFS= read -r -u 3 _; do
  mapfile -d '' -t -n 10 _sshmap < "$1";
  (
    cd -- "${_sshmap[1]}";
    export SSHMAP_KEY="${_sshmap[4]}" SSHMAP_NAME="${_sshmap[5]}" SSHMAP_FILE="${_sshmap[6]}";
    export SSHMAP_JOB="${_sshmap[7]}" SSHMAP_ATTEMPT="${_sshmap[8]}";
    [ -z "${_sshmap[9]}" ] || export filename="${_sshmap[9]}";
    shift; set +m; set -euo pipefail;
    eval "unset _sshmap OLDPWD; ${_sshmap[0]}"
  ) < "${_sshmap[2]}" > "${_sshmap[3]}" 2>&5 3<&- 4>&- 5>&-;
  echo "$?" >&4;
done
"""
#: on one line, as bash counts the lines of a command from the line of its eval
_LOOP = " ".join(_LOOP.split())
#: Words that are not programs, so that exec cannot stand before them.
_NOT_PROGRAMS = """
    ! . : [ [[ ]] { } alias bg bind break builtin caller case cd command compgen complete compopt continue coproc
    declare dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi for function getopts
    hash help history if in jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return
    select set shift shopt source suspend test then time times trap true type typeset ulimit umask unalias unset
    until wait while
"""
_BUILTINS = frozenset(_NOT_PROGRAMS.split())
_PLAIN = re.compile(
    r"""([A-Za-z0-9_./+][A-Za-z0-9_./+-]*)((?: +(?:[A-Za-z0-9_./,:@%+=-]|'[^'\n]*'|"[^"$`\\!\n]*")+)*)"""
)
_DROPPED = re.compile(r"(SSHMAP_.*|BASH_ENV|ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS|PYTHON.*|LC_.*|LANG|LANGUAGE)")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One command to be run."""

    command: str
    folder: Path
    stdin: Path
    stdout: Path
    key: str = ""
    name: str = ""
    file: str = ""
    job: str = ""
    attempt: int = 1
    filename: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    exit_code: int
    stderr: bytes


def plain_exec(command: str) -> str:
    """Put ``exec`` before a command that is one program with plain arguments, as ``bash -c`` does by itself; saves a fork."""
    match = _PLAIN.fullmatch(command.strip())
    if match and match[1] not in _BUILTINS and "=" not in match[1]:
        return f"exec {command.strip()}"
    return command


def task_environment(host: str, root: str) -> dict[str, str]:
    """Return the environment that commands start from: the daemon's, without what would change their meaning."""
    kept = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
    return {**kept, "LC_ALL": "C", "SSHMAP_HOST": host, "SSHMAP_ROOT": root}


class Tail:
    """Keeps the beginning and the end of a stream of any length."""

    def __init__(self) -> None:
        self._head, self._end, self._dropped = b"", b"", 0

    def add(self, piece: bytes) -> None:
        """Take some more."""
        room = KEPT - len(self._head)
        self._head += piece[:room]
        rest = self._end + piece[room:] if room < len(piece) else self._end
        self._dropped += max(0, len(rest) - KEPT)
        self._end = rest[-KEPT:]

    def text(self) -> bytes:
        """Return what was kept, with a note of what was not."""
        gap = b"\n[... %d bytes ...]\n" % self._dropped if self._dropped else b""
        return self._head + gap + self._end


class Shell:
    """The bash of one worker.

    Args:
        scratch: directory of the worker, on the root's file system.
        environment: what commands start from.
    """

    def __init__(self, scratch: Path, environment: dict[str, str]) -> None:
        request = scratch / "request"
        # written over for each task and never cut: the loop reads ten fields and no more
        self._request = os.open(request, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        request_read, self._ring = os.pipe()
        self._reply, reply_write = os.pipe()
        self._stderr, stderr_write = os.pipe()
        watch_read, self._watch = os.pipe()
        os.set_blocking(self._stderr, False)
        fds = (request_read, reply_write, stderr_write)
        redirects = f"exec 3<&{request_read} 4>&{reply_write} 5>&{stderr_write}; " + "; ".join(
            f"exec {fd}>&-" for fd in fds if fd > 5
        )
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, str(watch_read),
             "bash", "--norc", "--noprofile", "-c", f"{redirects}; {_LOOP}", "bash", str(request)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment, pass_fds=(*fds, watch_read), start_new_session=True,
        )  # fmt: skip
        for fd in (*fds, watch_read):
            os.close(fd)
        self._poll = select.poll()
        self._poll.register(self._reply, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)
        self._bash = 0
        self._gone = False

    def run(self, request: Request) -> Result | None:
        """Run one command to its end, and end what it left in the background; None if the shell is gone before it begins.

        If the command takes the shell down with it, its exit code is 137.
        """
        os.pwrite(self._request, _encode(request), 0)
        tail = Tail()
        try:
            os.write(self._ring, b"\n")
        except BrokenPipeError:
            self._gone = True
            return None
        reply = self._await_reply(tail)
        if reply:
            self._end_leftovers()
        else:
            # a killed supervisor takes bash along before it can be waited for, so asking for its end would be too early
            self._gone = True
            if self._is_unheard():
                return None
        self._drain(tail)
        return Result(exit_code=int(reply) if reply else 137, stderr=tail.text())

    @property
    def alive(self) -> bool:
        """Whether it can take another command."""
        return not self._gone and self._process.poll() is None

    def _is_unheard(self) -> bool:
        """Whether the shell has not read that there is a command: a killed supervisor's threads may hold its pipe a little longer."""
        return any(fcntl.ioctl(self._ring, termios.FIONREAD, bytes(4)))

    def _await_reply(self, tail: Tail) -> bytes:
        reply = b""
        while not reply.endswith(b"\n"):
            ready = [fd for fd, _ in self._poll.poll()]
            if self._stderr in ready:
                self._drain(tail)
            if self._reply in ready:
                piece = os.read(self._reply, 64)
                if not piece:
                    return b""
                reply += piece
        return reply

    def _drain(self, tail: Tail) -> None:
        for _ in range(64):
            try:
                piece = os.read(self._stderr, 65536)
            except BlockingIOError:
                return
            if not piece:
                return
            tail.add(piece)

    def _end_leftovers(self) -> None:
        """Kill what the command left behind: all below the supervisor that is not the shell itself."""
        below = supervisor.children(self._process.pid)
        if not self._bash and below:
            self._bash = below[0]  # forked before any orphan could come
        if below != [self._bash]:
            supervisor.kill_below(self._process.pid, spare=(self._bash,))

    def close(self) -> None:
        """End the shell and everything below it."""
        for fd in (self._watch, self._ring, self._reply, self._stderr, self._request):
            os.close(fd)
        self._process.wait()


def _encode(request: Request) -> bytes:
    fields = (
        plain_exec(request.command), str(request.folder), str(request.stdin), str(request.stdout), request.key, request.name,
        request.file, request.job, str(request.attempt), request.filename,
    )  # fmt: skip
    return b"".join(field.encode() + b"\0" for field in fields)
