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
#: on one line, as bash counts the lines of a command from the line of its eval
_LOOP = " ".join(_LOOP.split())


class Command:
    """One command, as the worker asked for it.

    Args:
        fields: number, working directory, paths of stdin and stdout, command, number of variables, the variables,
            and, if the command is one plain program, its words; last, the number again.
    """

    def __init__(self, fields: list[bytes]) -> None:
        self.number, self.folder, self.stdin, self.stdout, self.text = fields[:5]
        count = int(fields[5])
        self.variables, self.words = fields[6 : 6 + count], fields[6 + count : -1]
        if fields[-1] != self.number:
            raise ValueError("the request is cut short")


class Bash:
    """The bash of one supervisor.

    Args:
        environment: what commands start from.
        stderr: where their stderr goes.
    """

    def __init__(self, environment: dict[bytes, bytes], stderr: int) -> None:
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

    def result(self, command: Command) -> int | None:
        """Read the exit code of a command; None if bash is gone, or answers to something else."""
        number, _, code = os.read(self.reply, 64).partition(b" ")
        return int(code) if number == command.number and code.strip().isdigit() else None

    def end(self) -> None:
        """Kill this bash and close its pipes and its file."""
        kill(self.pid)
        for fd in (self._ring, self.reply, self._request):
            os.close(fd)


def _unnamed_file() -> int:
    """Open a file that no command can find by a name."""
    if sys.platform == "linux":
        return os.memfd_create("request")
    path = f"/tmp/.sshmap.{os.getpid()}.{os.urandom(8).hex()}"  # noqa: S108  # a name that exists is refused
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return fd
