"""The notation for many hosts at once: ``h[01-03,7]`` is h01 h02 h03 h07.

The width of the first number is kept, as ClusterShell's node sets do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sshmap.errors import UsageError

MAX_HOSTS = 10_000
_RANGE = re.compile(r"^([^\[\]]*)\[([0-9,\-]+)\]([^\[\]]*)$")
_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def expand(text: str) -> list[str]:
    """Write out a range; a text without brackets is itself.

    Raises:
        UsageError: the brackets hold no numbers, run backwards or name too many hosts.
    """
    if "[" not in text and "]" not in text:
        return [text]
    match = _RANGE.match(text)
    if not match:
        raise UsageError(f"bad host range {text!r}", hint="write h[01-12] or h[1,3-5]")
    head, inside, tail = match.groups()
    names = [f"{head}{number}{tail}" for part in inside.split(",") for number in _numbers(text, part)]
    if len(names) > MAX_HOSTS:
        raise UsageError(f"host range {text!r} names more than {MAX_HOSTS} hosts")
    return names


def _numbers(text: str, part: str) -> list[str]:
    first, dash, last = part.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
        raise UsageError(f"bad host range {text!r}", hint="write h[01-12] or h[1,3-5]")
    stop = min(int(last or first), int(first) + MAX_HOSTS + 1)
    return [str(number).zfill(len(first)) for number in range(int(first), stop + 1)]


def fold(names: Iterable[str]) -> str:
    """Write many names shortly: h1 h3 h4 h5 become ``h[1,3-5]``."""
    groups: dict[tuple[str, int], list[int]] = {}
    words: list[str] = []
    for name in names:
        match = _NUMBERED.match(name)
        if not match:
            words.append(name)
            continue
        width = len(match[2]) if match[2].startswith("0") and len(match[2]) > 1 else 0
        groups.setdefault((match[1], width), []).append(int(match[2]))
    for (head, width), numbers in groups.items():
        words.append(_fold_group(head, width, sorted(set(numbers))))
    return ",".join(words)


def _fold_group(head: str, width: int, numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [str(run[0]).zfill(width) + (f"-{str(run[-1]).zfill(width)}" if len(run) > 1 else "") for run in runs]
    return head + (parts[0] if len(numbers) == 1 else f"[{','.join(parts)}]")
