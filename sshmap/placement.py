"""Which host a key belongs to: a pure function of the inventory's names, order and weights.

Only the last part of a key counts (its digits or all of it: the placement token), so equal names in different directories lie
together. A last part that starts with ASCII digits, alone or followed by ``_``,
names its host by number. Everything else goes through a consistent-hash ring
(Karger et al., 1997), here the ``uhashring`` package with its default MD5 points.

Placement may never change under people's data: golden vectors in the tests hold it.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence

import xxhash
from uhashring import HashRing

from sshmap.model import HostName, base_name

ALGORITHM = "uhashring-md5-160"
_POINTS = 160
_PINNED = re.compile(r"([0-9]+)(?:_|$)")


def numeric_prefix(base: str) -> str:
    """Return the digits that pin a base name to a host, or an empty string."""
    match = _PINNED.match(base)
    return match[1] if match else ""


class Ring:
    """The hosts of an inventory as a consistent-hash ring.

    Args:
        members: names and weights, in inventory order.
    """

    def __init__(self, members: Sequence[tuple[str, float]]) -> None:
        self.members = tuple((HostName(name), float(weight)) for name, weight in members)
        self._names = tuple(name for name, _ in self.members)

    def place(self, name: str) -> HostName:
        """Return the host that the key (or a directory of the same base name) belongs to."""
        if len(self._names) == 1:
            return self._names[0]
        base = base_name(name)
        digits = numeric_prefix(base)
        if digits:
            return self._names[int(digits) % len(self._names)]
        return HostName(self._points.get_node(base))

    @functools.cached_property
    def _points(self) -> HashRing:
        """The package's ring of points; made when the first key is placed, as many sessions place none."""
        vnodes = {name: {"vnodes": max(1, round(_POINTS * weight)), "weight": 1} for name, weight in self.members}
        return HashRing(vnodes)

    @property
    def fingerprint(self) -> str:
        """Digest of all that placement depends on: algorithm, names, order, weights."""
        text = "\n".join([ALGORITHM, *(f"{name} {weight!r}" for name, weight in self.members)])
        return xxhash.xxh3_128_hexdigest(text.encode())

    def shares(self) -> dict[str, float]:
        """Return each host's share of the hashed names, between 0 and 1, by the lengths of its arcs."""
        if len(self._names) == 1:
            return {self._names[0]: 1.0}
        points = self._points.get_points()
        span = points[-1][0] - points[0][0] or 1
        totals: dict[str, float] = dict.fromkeys(self._names, 0.0)
        for (start, _), (end, owner) in itertools.pairwise(points):
            totals[owner] += (end - start) / span
        return totals


def ring_difference(theirs: Sequence[tuple[str, float]], ours: Sequence[tuple[str, float]]) -> str:
    """Say in words how two rings differ, for the user who has to correct the inventory."""
    old, new = dict(theirs), dict(ours)
    said = [f"{name} is gone" for name in old if name not in new]
    said += [f"{name} is new" for name in new if name not in old]
    said += [
        f"weight of {name} was {old[name]:g}, is {new[name]:g}"
        for name in old
        if name in new and old[name] != new[name]
    ]
    if not said:
        said = [f"order was {' '.join(old)}, is {' '.join(new)}"]
    return "; ".join(said)
