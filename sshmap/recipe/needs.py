"""What other steps have made and a step needs beside its inputs, fetched to be shipped with it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sshmap.client.cluster import Cluster
from sshmap.client.listing import Placed
from sshmap.errors import UsageError
from sshmap.recipe.flow import Place, Step


@contextlib.contextmanager
def fetched(cluster: Cluster, place: Place, step: Step, *, needed: bool = False) -> Iterator[list[Path]]:
    """Fetch what other steps have made and a step needs in its tasks' directories, and yield all files to be shipped.

    Args:
        cluster: the cluster.
        place: where keys lie.
        step: the step.
        needed: whether it has to be there; else an empty file stands for what is not.

    Raises:
        UsageError: such a step has made more than one key, or none.
    """
    with tempfile.TemporaryDirectory(prefix="sshmap-recipe-") as folder:
        paths = list(step.shipped)
        for name in step.needs:
            keys = [row for row in cluster.ls(place.prefix(name), recursive=True) if isinstance(row, Placed)]
            if len(keys) > 1 or (needed and not keys):
                raise UsageError(
                    f"step {step.name} needs the one key of {name}, which has {len(keys)}",
                    hint="merge them first" if keys else f"run {name} first",
                )
            path = Path(folder, name)
            path.write_bytes(cluster.get(keys[0]) if keys else b"")
            paths.append(path)
        yield paths
