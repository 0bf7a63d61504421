"""What a recipe starts from, held against the keys that lie there already: what is new, has changed, or is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from sshmap.client.cluster import Cluster
from sshmap.client.listing import Placed
from sshmap.client.results import Counted
from sshmap.recipe import files
from sshmap.recipe.files import Files
from sshmap.recipe.flow import Place


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Names of inputs, by what is to be done about them."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    same: tuple[str, ...]

    @property
    def pending(self) -> frozenset[str]:
        """Those whose keys have to be made, or made anew."""
        return frozenset((*self.new, *self.changed))


class Source(Protocol):
    """Where inputs come from."""

    def compare(self) -> Difference:
        """Hold the inputs against the keys that lie there.

        Raises:
            SshmapError: a host does not answer, or an input cannot be read.
        """

    def send(self, difference: Difference, report: Counted, note: Callable[[str], None]) -> None:
        """Make the keys those of the inputs; stopped anywhere and begun again, it comes to the same end.

        Args:
            difference: what `compare` has returned.
            report: called at each step.
            note: called with a line about an input.

        Raises:
            SshmapError: some could not be sent, or fetched; the others were.
        """


class LocalFiles:
    """Files on this machine.

    Args:
        cluster: the cluster.
        prefix: their directory on it.
        found: the files by their names.
    """

    def __init__(self, cluster: Cluster, prefix: str, found: Mapping[str, Path]) -> None:
        self._cluster, self._prefix, self._found = cluster, prefix, found

    def compare(self) -> Difference:
        """Hold files against the keys below their directory; see `Source`."""
        rows = self._cluster.ls(self._prefix, recursive=True)
        there = {row.path.rsplit("/", 1)[1]: row.digest for row in rows if isinstance(row, Placed)}
        both = sorted(self._found.keys() & there.keys())
        same = tuple(name for name in both if files.digest(self._found[name]) == there[name])
        return Difference(
            new=tuple(sorted(self._found.keys() - there.keys())),
            changed=tuple(name for name in both if name not in same),
            gone=tuple(sorted(there.keys() - self._found.keys())),
            same=same,
        )

    def send(self, difference: Difference, report: Counted, note: Callable[[str], None]) -> None:
        """Delete what has changed or is gone, then send what is new or has changed; see `Source`."""
        for name in (*difference.changed, *difference.gone):
            note(f"{name} {'has changed' if name in difference.changed else 'is gone'}")
            self._cluster.rm(f"{self._prefix}{name}")
        if difference.pending:
            paths = [self._found[name] for name in sorted(difference.pending)]
            self._cluster.put_files(paths, self._prefix, report=report)


@contextlib.contextmanager
def opened(cluster: Cluster, place: Place, source: Files, *, again: bool = False) -> Iterator[Source]:
    """Find where files come from, for as long as this lasts.

    Args:
        cluster: the cluster.
        place: where the recipe's keys lie.
        source: the files.
        again: fetch raw inputs again.

    Raises:
        UsageError: there are none.
    """
    if source.urls:
        from sshmap.recipe.fetching import RawInputs  # imports what few recipes need

        yield RawInputs(cluster, place, source.name, source.urls, again=again)
    else:
        with files.found(source) as found:
            yield LocalFiles(cluster, place.prefix(source.name), found)
