"""How a host's shell starts the agent of a root, and why it may refuse to.

The launcher `agent` below a root is the first thing of a root that runs, and whoever could make the root could have
put it there. So the host's `sh` looks before it runs it: the root is no link, is ours and can be written to by nobody
else, and so is the launcher. The shell goes into the root first, so that what it judged is what it runs. The agent
itself judges the root's parents when it starts, see `store/ownership.py`.

The script keeps to what every login shell passes on as it is: one line without single quotes and exclamation marks.
"""

from __future__ import annotations

import shlex

from sshmap.errors import Refused
from sshmap.protocol.handshake import quote
from sshmap.store.layout import unsafe

#: the exit code by which the script says that it did not start the agent; EX_NOPERM of sysexits.h
UNSAFE = 77
_SCRIPT = (
    f'no() {{ echo "$0 $1" >&2; exit {UNSAFE}; }}; gone() {{ echo "$0/agent: not found" >&2; exit 127; }}; '
    '[ -L "$0" ] && no "is a link; a root has to be a directory and no link"; '
    '[ -e "$0" ] || gone; '
    '[ -O "$0" ] || no "belongs to somebody else"; '
    'cd "$0" || exit 126; '
    '[ -O . ] || no "belongs to somebody else"; '
    'case $(ls -ldn .) in d????-??-*) ;; *) no "can be written to by others";; esac; '
    "[ -f agent ] && [ -r agent ] || gone; "
    '[ -O agent ] || no "holds an agent that belongs to somebody else"; '
    # read by this shell: starting another one would take as long as all the rest
    ". ./agent"
)


def launch(root: str, verb: str) -> list[str]:
    """Return the command that starts an agent below a root, which is relative to the home directory where the root is.

    Args:
        root: the root as the inventory names it.
        verb: ``serve``, ``alone`` or ``peer``.
    """
    # with a dot, as a shell looks elsewhere for a plain name where CDPATH is set
    place = f"./{root.removeprefix('~/')}" if root.startswith("~/") else root
    return ["sh", "-c", _SCRIPT, place, verb]


def launch_line(root: str, verb: str) -> str:
    """Return the command as a line of shell."""
    return f"exec {shlex.join(launch(root, verb))}"


def refused(complaint: bytes) -> Refused:
    """Say what the script found."""
    return unsafe(complaint.decode("utf-8", "replace").strip().rpartition("\n")[2] or quote(complaint))
