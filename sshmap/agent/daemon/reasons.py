"""Saying in words why a command failed."""

from __future__ import annotations

import shlex

from sshmap.agent.execution.executor import Result

_LAST_SIGNAL = 64
#: exit code of a command that wrote to a pipe that nobody reads any more
_CUT_OFF = 141
#: characters of stderr that are passed on; programs that are named, and characters of each
_MOST_SAID, _MOST_NAMES, _LONGEST = 2000, 3, 60


def reason(result: Result, command: str) -> str:
    """Say how a command ended, and what it said last.

    Args:
        result: how it ended.
        command: the command.
    """
    said = result.stderr.decode("utf-8", "replace").strip()[-_MOST_SAID:]
    code = result.exit_code
    how = f"exit {code} (signal {code - 128})" if 128 < code <= 128 + _LAST_SIGNAL else f"exit {code}"
    if code == _CUT_OFF and (names := _writing_to_pipes(command)):
        which = " or ".join(f"`{name}`" for name in names)
        how += (
            f": {which} was cut off by a later command of the pipeline (pipefail); "
            "end it with `|| true`, or put `set +o pipefail;` first"
        )
    return f"{how}: {said}" if said else how


def _writing_to_pipes(command: str) -> list[str]:
    """Return the names of the programs in a command that write to a pipe, as far as it can be read without a shell."""
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars=True)
    names: dict[str, None] = {}
    name = ""
    try:
        for token in lexer:
            if token in ("|", "|&"):
                names[name] = None
            if set(token) <= set("|&;()"):
                name = ""
            elif not name and "=" not in token:
                name = token
    except ValueError:
        return []
    return [name[:_LONGEST] for name in names if name][:_MOST_NAMES]
