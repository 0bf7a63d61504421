"""A long-lived bash that forks a subshell for each command, which takes a third of the time of starting a bash.

The loop trusts nothing that a command could have touched. It reads the number of a request from
fd 3 and the request from fd 6, a file without a name that the supervisor writes over each time:
NUL-separated, so no name ever becomes shell text, with the number as its first and last field. It
answers on fd 4 with the number and the exit code. A command's stderr is fd 5. The subshell has none of
these open but the last, as its stderr.

What a command took is told exactly only to the process that waits for it. So the subshell can be given away: it is
started by one that ends, whereupon the supervisor is its parent, and begins when the supervisor says so on fd 7.
bash answers with the subshell's process id then. That costs one fork more. As the command may have killed or
stopped bash meanwhile, bash is asked afterwards whether it is there: it answers an empty line with one. Standard library only.
"""

from __future__ import annotations

import os
import select
import sys

from sshmap.agent.execution.processes import RESET, kill

_LOOP = r"""
set -m;
while IFS= read -r -u 3 _sshmap_number; do
  if [ ! "$_sshmap_number" ]; then echo >&4; continue; fi;
  mapfile -d '' -t -u 6 _sshmap;
  [ "${_sshmap[0]-}" = "$_sshmap_number" ] && [ "${_sshmap[-1]-}" = "$_sshmap_number" ] || exit 1;
  if [ "${_sshmap[5]}" ]; then
    (
      set -m;
      BODY &
      echo "$_sshmap_number $!" >&4
    );
    echo "$_sshmap_number" >&4;
  else
    BODY;
    echo "$_sshmap_number $?" >&4;
  fi;
done
"""
_BODY = r"""
(
  until [ ! "${_sshmap[5]}" ] || [ "${_sshmap_start-}" = "$_sshmap_number" ]; do IFS= read -r -u 7 _sshmap_start || exit 1; done;
  cd -- "${_sshmap[2]}" || exit 1;
  export LC_ALL "${_sshmap[@]:6:${#_sshmap[@]}-7}";
  set +m; set -euo pipefail;
  exec 7<&-;
  eval "unset _sshmap _sshmap_number _sshmap_start OLDPWD; ${_sshmap[1]}"
) 2>&5 < "${_sshmap[3]}" 1<> "${_sshmap[4]}" 3<&- 4>&- 5>&- 6<&-
"""
#: microseconds
_TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")
#: on one line, as bash counts the lines of a command from the line of its eval
_LOOP = " ".join(_LOOP.replace("BODY", _BODY).split())


class Command:
    """One command, as the worker asked for it.

    Args:
        fields: number, working directory, paths of stdin and stdout, command, nice value, which interpreter calls it
            if it is a Python function, number of variables, the variables, and its words: those of one plain program, or
            path, file, name and verb of a function; last, the number again.
    """

    def __init__(self, fields: list[bytes]) -> None:
        self.number, self.folder, self.stdin, self.stdout, self.text = fields[:5]
        self.nice, self.identity, count = int(fields[5]), fields[6], int(fields[7])
        self.variables, self.words = fields[8 : 8 + count], fields[8 + count : -1]
        if fields[-1] != self.number:
            raise ValueError("the request is cut short")


class Ended:
    """How a command ended.

    Args:
        code: its exit code.
        user: microseconds of CPU time in user mode.
        system: microseconds of CPU time in the system.
        peak: KiB of memory of its largest process; 0 if that is not known.
    """

    def __init__(self, code: int, user: int = 0, system: int = 0, peak: int = 0) -> None:
        self.code = code
        self.figures = (code, user, system, peak)


class Bash:
    """The bash of one supervisor.

    Args:
        environment: what commands start from.
        stderr: where their stderr goes.
        nice: the nice value that it and its commands get.
    """

    def __init__(self, environment: dict[bytes, bytes], stderr: int, nice: int) -> None:
        ring, self._ring = os.pipe()
        start, self._start = os.pipe()
        self.reply, reply = os.pipe()
        self._request = unnamed_file()
        null = os.open(os.devnull, os.O_RDWR)
        wanted = (null, null, null, ring, reply, stderr, self._request, start)
        # in two steps, as a descriptor may have the number that another one is to get
        high = [(os.POSIX_SPAWN_DUP2, fd, 100 + to) for to, fd in enumerate(wanted)]
        low = [(os.POSIX_SPAWN_DUP2, 100 + to, to) for to in range(len(wanted))]
        closed = [(os.POSIX_SPAWN_CLOSE, 100 + to) for to in range(len(wanted))]
        os.chdir("/")
        self.pid = os.posix_spawnp(
            b"bash", [b"bash", b"--norc", b"--noprofile", b"-c", os.fsencode(_LOOP), b"bash"], environment,
            file_actions=[*high, *low, *closed], setpgroup=0, setsigdef=RESET,
        )  # fmt: skip
        self.nice = nice
        #: wait status, if it has ended or stopped
        self.ended: int | None = None
        if nice:
            os.setpriority(os.PRIO_PROCESS, self.pid, nice)
        self._stat = _opened(f"/proc/{self.pid}/stat")
        #: microseconds of CPU time of all its commands so far, in user mode and in the system
        self._times = (0, 0)
        for fd in (ring, start, reply, null):
            os.close(fd)
        #: where its answers are awaited, and what else its owner waits for
        self.poll = select.poll()
        self.poll.register(self.reply, select.POLLIN)

    def begin(self, command: Command, *, gives: bool) -> None:
        """Hand over a command.

        Args:
            command: the command.
            gives: whether its subshell is to become a child of this process, and to wait for `start`.

        Raises:
            OSError: bash is gone.
        """
        fields = (
            command.number, command.text, command.folder, command.stdin, command.stdout, b"gives" if gives else b"",
            *command.variables, command.number,
        )  # fmt: skip
        content = b"".join(field + b"\0" for field in fields)
        os.pwrite(self._request, content, 0)
        os.ftruncate(self._request, len(content))
        os.lseek(self._request, 0, os.SEEK_SET)
        os.write(self._ring, command.number + b"\n")

    def result(self, command: Command) -> Ended | None:
        """Read how a command ended; None if bash is gone, or answers to something else."""
        number, _, code = os.read(self.reply, 64).partition(b" ")
        if number != command.number or not code.strip().isdigit():
            return None
        before, self._times = self._times, self._children_times()
        return Ended(int(code), self._times[0] - before[0], self._times[1] - before[1])

    def given(self, command: Command) -> int:
        """Read the process id of a command's subshell, which is a child of this process now; 0 if bash is gone, or answers otherwise."""
        answer = b""
        while answer.count(b"\n") < 2:
            piece = os.read(self.reply, 64)
            if not piece:
                return 0
            answer += piece
        number, *pid, again = answer.split()
        return int(pid[0]) if number == again == command.number and pid and pid[0].isdigit() else 0

    def start(self, command: Command) -> None:
        """Have the subshell that bash gave away begin."""
        self._times = self._children_times()
        os.write(self._start, command.number + b"\n")

    def ask(self) -> None:
        """Ask bash whether it is there.

        Raises:
            OSError: it is gone.
        """
        os.write(self._ring, b"\n")

    def has_answered(self) -> bool:
        """Read the answer to that, and say whether it is one."""
        return os.read(self.reply, 64) == b"\n"

    def _children_times(self) -> tuple[int, int]:
        """Read the CPU time of all commands so far, in the system's ticks: of a quick command none may show, of many all do.

        Rejected: bash's `times`, which costs a tenth of a quick command.
        """
        if not self._stat:
            return (0, 0)
        fields = os.pread(self._stat[0], 1024, 0).rpartition(b")")[2].split()
        return int(fields[13]) * _TICK, int(fields[14]) * _TICK

    def end(self) -> None:
        """Kill this bash and close its pipes and its file."""
        kill(self.pid)
        for fd in (self._ring, self._start, self.reply, self._request, *self._stat):
            os.close(fd)


def _opened(path: str) -> list[int]:
    """Open a file that the system may not have."""
    try:
        return [os.open(path, os.O_RDONLY | os.O_CLOEXEC)]
    except OSError:
        return []


def unnamed_file() -> int:
    """Open a file that no command can find by a name."""
    if sys.platform == "linux":
        return os.memfd_create("request")
    path = f"/tmp/.sshmap.{os.getpid()}.{os.urandom(8).hex()}"  # noqa: S108  # a name that exists is refused
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return fd
