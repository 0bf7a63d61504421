"""Finding commands that need no shell: one program with plain words. Whatever might mean more to bash is left to bash."""

from __future__ import annotations

import functools
import re
import shlex

#: Words that are not programs: bash does these itself.
_NOT_PROGRAMS = """
    ! . : [ [[ ]] { } alias bg bind break builtin caller case cd command compgen complete compopt continue coproc
    declare dirs disown do done echo elif else enable esac eval exec exit export false fc fg fi for function getopts
    hash help history if in jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return
    select set shift shopt source suspend test then time times trap true type typeset ulimit umask unalias unset
    until wait while
"""
_BUILTINS = frozenset(_NOT_PROGRAMS.split())
_PLAIN = re.compile(
    r"""([A-Za-z0-9_./+][A-Za-z0-9_./+-]*)"""
    r"""((?: +(?:[A-Za-z0-9_./,:@%+=-]|'[^'\n\x01\x7f]*'|"[^"$`\\!\n\x01\x7f]*")+)*)"""
)


@functools.lru_cache(maxsize=8)
def plain_words(command: str) -> tuple[str, ...]:
    """Return the words of a command that is one program with plain arguments; no words if a shell has to read it."""
    match = _PLAIN.fullmatch(command.strip(" \n\t"))
    if match and match[1] not in _BUILTINS:
        return tuple(shlex.split(match[0]))
    return ()
