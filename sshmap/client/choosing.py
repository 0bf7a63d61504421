"""Which files of a tree take part in a copy, and the numbers that deal few large ones out to the hosts in turn."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from sshmap.client.sources import Source
from sshmap.errors import UsageError
from sshmap.model import base_name, glob_pattern

#: digits of a number that `--number` gives
_DIGITS = 4
_NUMBERED = re.compile(r"([0-9]+)_(.+)")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses by path: what an include glob matches (all, if there is none) and no exclude glob does.

    A glob matches a path if it matches it or a directory that it lies in; ``*`` stays within a part. A glob without a
    slash is held against the names at every depth, one with a slash against whole paths.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Say whether it leaves anything out."""
        return bool(self.include or self.exclude)

    def takes(self, path: str) -> bool:
        """Say whether a path below the copied directory takes part."""
        included = not self.include or any(_matches(glob, path) for glob in self.include)
        return included and not any(_matches(glob, path) for glob in self.exclude)


def _matches(glob: str, path: str) -> bool:
    above = "" if "/" in glob.strip("/") else "(?:.*/)?"
    return re.fullmatch(f"{above}{glob_pattern(glob.strip('/'))}(?:/.*)?", path) is not None


class Numbers:
    """Numbers of base names: ``0007_name`` stands for ``name`` and lies on host 7 % n.

    Args:
        stored: names of keys, some of which begin with a number.
    """

    def __init__(self, stored: Iterable[str]) -> None:
        #: by base name without its number: the number as it was written
        self._known: dict[str, str] = {}
        for name in stored:
            if match := _NUMBERED.fullmatch(base_name(name)):
                self._known.setdefault(match[2], match[1])

    def number(self, sources: Iterable[Source]) -> list[Source]:
        """Give every source's name a number, an equal one to equal base names.

        One that is stored keeps its number; the others count on from the highest, the largest first, so that the hosts,
        which are dealt them in turn, get about equally much.
        """
        every = list(sources)
        sizes: dict[str, int] = {}
        for source in every:
            base = base_name(source.name)
            sizes[base] = sizes.get(base, 0) + source.size
        following = max((int(number) for number in self._known.values()), default=-1) + 1
        fresh = sorted(sizes.keys() - self._known.keys(), key=lambda base: (-sizes[base], base))
        self._known |= {base: str(following + place).zfill(_DIGITS) for place, base in enumerate(fresh)}
        return [msgspec.structs.replace(source, name=self._numbered(source.name)) for source in every]

    def _numbered(self, name: str) -> str:
        base = base_name(name)
        return f"{name[: len(name) - len(base)]}{self._known[base]}_{base}"


def without_numbers(paths: Iterable[str]) -> dict[str, str]:
    """Return the paths that keys are copied out to when the numbers of their base names are left away.

    Raises:
        UsageError: two would be copied to the same path.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for path in paths:
        base = base_name(path)
        match = _NUMBERED.fullmatch(base)
        found[path] = path[: len(path) - len(base)] + (match[2] if match else base)
        if (other := taken.setdefault(found[path], path)) != path:
            raise UsageError(
                f"{other} and {path} are both {found[path]} without their numbers", hint="copy them without --number"
            )
    return found
