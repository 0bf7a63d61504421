"""A long-lived bash that forks a subshell for each command, which takes a third of the time of starting a bash.

The loop trusts nothing that a command could have touched. It reads the number of a request from
fd 3 and the request from fd 6, a file without a name that the supervisor writes over each time:
NUL-separated, so no name ever becomes shell text, with the number as its first and last field. It
answers on fd 4 with the number and the exit code. A command's stderr is fd 5. The subshell has none of
these open but the last, as its stderr. Standard library only.
"""

from __future__ import annotations

import os
import select
import sys

from sshmap.agent.execution.processes import RESET, kill

_LOOP = r"""
set -m;
while IFS= read -r -u 3 _sshmap_number; do
  mapfile -d '' -t -u 6 _sshmap;
  [ "${_sshmap[0]-}" = "$_sshmap_number" ] && [ "${_sshmap[-1]-}" = "$_sshmap_number" ] || exit 1;
  (
    cd -- "${_sshmap[2]}" || exit 1;
    export LC_ALL "${_sshmap[@]:5:${#_sshmap[@]}-6}";
    set +m; set -euo pipefail;
    eval "unset _sshmap _sshmap_number OLDPWD; ${_sshmap[1]}"
  ) 2>&5 < "${_sshmap[3]}" 1<> "${_sshmap[4]}" 3<&- 4>&- 5>&- 6<&-;
  echo "$_sshmap_number $?" >&4;
done
"""
#: microseconds
_TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")
#: on one line, as bash counts the lines of a command from the line of its eval
_LOOP = " ".join(_LOOP.split())


class Command:
    """One command, as the worker asked for it.

    Args:
        fields: number, working directory, paths of stdin and stdout, command, nice value, number of variables, the
            variables, and, if the command is one plain program, its words; last, the number again.
    """

    def __init__(self, fields: list[bytes]) -> None:
        self.number, self.folder, self.stdin, self.stdout, self.text = fields[:5]
        self.nice, count = int(fields[5]), int(fields[6])
        self.variables, self.words = fields[7 : 7 + count], fields[7 + count : -1]
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
        self.reply, reply = os.pipe()
        self._request = _unnamed_file()
        null = os.open(os.devnull, os.O_RDWR)
        wanted = (null, null, null, ring, reply, stderr, self._request)
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
        if nice:
            os.setpriority(os.PRIO_PROCESS, self.pid, nice)
        self._stat = _opened(f"/proc/{self.pid}/stat")
        #: microseconds of CPU time of all its commands so far, in user mode and in the system
        self._times = (0, 0)
        for fd in (ring, reply, null):
            os.close(fd)
        #: where its answers are awaited, and what else its owner waits for
        self.poll = select.poll()
        self.poll.register(self.reply, select.POLLIN)

    def begin(self, command: Command) -> None:
        """Hand over a command.

        Raises:
            OSError: bash is gone.
        """
        fields = (
            command.number,
            command.text,
            command.folder,
            command.stdin,
            command.stdout,
            *command.variables,
            command.number,
        )
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
        for fd in (self._ring, self.reply, self._request, *self._stat):
            os.close(fd)


def _opened(path: str) -> list[int]:
    """Open a file that the system may not have."""
    try:
        return [os.open(path, os.O_RDONLY | os.O_CLOEXEC)]
    except OSError:
        return []


def _unnamed_file() -> int:
    """Open a file that no command can find by a name."""
    if sys.platform == "linux":
        return os.memfd_create("request")
    path = f"/tmp/.sshmap.{os.getpid()}.{os.urandom(8).hex()}"  # noqa: S108  # a name that exists is refused
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return fd
