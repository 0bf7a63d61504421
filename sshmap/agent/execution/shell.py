"""The environment variables that every command starts with."""

from __future__ import annotations

import os
import re

#: variables that would change the meaning of commands, or belong to the process that started the daemon
_DROPPED = re.compile(
    r"(SSHMAP_.*|BASH_ENV|ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS|PYTHON.*|LC_.*|LANG|LANGUAGE|PWD|OLDPWD|SHLVL|_)"
)


def task_environment(host: str, root: str) -> dict[str, str]:
    """Return the environment that commands start from: this process's own, without `_DROPPED`, with sshmap's."""
    kept = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
    return {**kept, "LC_ALL": "C", "SSHMAP_HOST": host, "SSHMAP_ROOT": root}
