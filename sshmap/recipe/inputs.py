"""Files that a recipe starts from, held against the keys that lie there already: what is new, has changed, or is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from sshmap.client.cluster import Cluster
from sshmap.client.listing import Placed
from sshmap.client.results import Counted
from sshmap.recipe import files


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Names of files, by what is to be done about them."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    same: tuple[str, ...]

    @property
    def pending(self) -> frozenset[str]:
        """Those whose keys have to be made, or made anew."""
        return frozenset((*self.new, *self.changed))


def compare(cluster: Cluster, prefix: str, found: Mapping[str, Path]) -> Difference:
    """Hold files against the keys below a prefix.

    Args:
        cluster: the cluster.
        prefix: the files' directory on it.
        found: the files by their names.

    Raises:
        SshmapError: a host does not answer, or a file cannot be read.
    """
    there = {
        row.path.rsplit("/", 1)[1]: row.digest for row in cluster.ls(prefix, recursive=True) if isinstance(row, Placed)
    }
    both = sorted(found.keys() & there.keys())
    same = tuple(name for name in both if files.digest(found[name]) == there[name])
    return Difference(
        new=tuple(sorted(found.keys() - there.keys())),
        changed=tuple(name for name in both if name not in same),
        gone=tuple(sorted(there.keys() - found.keys())),
        same=same,
    )


def send(
    cluster: Cluster,
    prefix: str,
    found: Mapping[str, Path],
    difference: Difference,
    report: Counted,
    note: Callable[[str], None],
) -> None:
    """Make the keys below a prefix those of the files: delete what has changed or is gone, then send what is new or has changed.

    Stopped anywhere and begun again, it comes to the same end.

    Raises:
        TransferFailed: some could not be sent.
    """
    for name in (*difference.changed, *difference.gone):
        note(f"{name} {'has changed' if name in difference.changed else 'is gone'}")
        cluster.rm(f"{prefix}{name}")
    if difference.pending:
        cluster.put_files([found[name] for name in sorted(difference.pending)], prefix, report=report)
