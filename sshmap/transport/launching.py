"""How a host's shell starts the agent of a root, and why it may refuse to.

The launcher `agent` is the first file of a root that runs, and another user who made the root could have put it there.
So the host's `sh` checks root and launcher before it runs the launcher: each is no link, is ours, and nobody else can
write to it. The shell changes into the root first, so that it runs the launcher that it has checked. The agent itself
checks the root's parents when it starts, see `store/ownership.py`.

The script holds only what every login shell passes on unchanged: one line without single quotes and exclamation marks.
"""

from __future__ import annotations

import shlex

from sshmap.errors import Refused
from sshmap.protocol.handshake import quote
from sshmap.store.layout import unsafe

#: the exit code by which the script says that it did not start the agent; EX_NOPERM of sysexits.h
UNSAFE = 77
_SCRIPT = (
    # the home directory by its variable, as the installer takes it: a start-up file may have gone elsewhere
    'r="$0"; case "$r" in "~/"*) r="$HOME/${r#??}";; esac; '
    f'no() {{ echo "$r $1" >&2; exit {UNSAFE}; }}; gone() {{ echo "$r/agent: not found" >&2; exit 127; }}; '
    '[ -L "$r" ] && no "is a link; a root has to be a directory and no link"; '
    '[ -e "$r" ] || gone; '
    '[ -O "$r" ] || no "belongs to somebody else"; '
    'cd "$r" || exit 126; '
    '[ -O . ] || no "belongs to somebody else"; '
    'case $(ls -ldn .) in d????-??-*) ;; *) no "can be written to by others";; esac; '
    "[ -f agent ] && [ -r agent ] || gone; "
    '[ -O agent ] || no "holds an agent that belongs to somebody else"; '
    # this shell reads the launcher itself: starting another one would take as long as all the rest
    ". ./agent"
)


def launch(root: str, verb: str) -> list[str]:
    """Return the command that starts an agent below a root; ``~/`` stands for the home directory.

    Args:
        root: the root as the inventory names it.
        verb: ``serve``, ``alone`` or ``peer``.
    """
    return ["sh", "-c", _SCRIPT, root, verb]


def launch_line(root: str, verb: str) -> str:
    """Return the command as a line of shell."""
    return f"exec {shlex.join(launch(root, verb))}"


def refused(complaint: bytes) -> Refused:
    """Return the error for what the script found."""
    return unsafe(complaint.decode("utf-8", "replace").strip().rpartition("\n")[2] or quote(complaint))
