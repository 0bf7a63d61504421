"""The command line that starts an agent: the same arguments in every transport."""

from __future__ import annotations

import sys
from pathlib import Path

ENTRY = Path(__file__).resolve().parent.parent / "agent" / "__main__.py"


def agent_argv(verb: str, root: str, *, python: str = "", entry: str = "") -> list[str]:
    """Return the command line of one of the agent's processes.

    Args:
        verb: ``serve``, ``alone``, ``peer=NAME`` or ``daemon``.
        root: the host's root directory.
        python: interpreter on the host; this one if empty.
        entry: path of the agent's entry file on the host; this installation's if empty.
    """
    return [python or sys.executable, "-I", entry or str(ENTRY), verb, "--root", root]
