"""sshmap turns a list of plain SSH hosts into a data-processing cluster.

Reading order: `model` and `placement` (the words), `inventory`, `protocol` (one page),
`store` (what lies on a host), `agent` (what runs there), `transport` (the way there),
`client` (asks every host at once), `cli` (what a person types).

Importing this module is quick; `Cluster` is loaded when it is first used.
"""

from __future__ import annotations

from sshmap.version import __version__

#: as typing has it, which takes longer to import than the start of an agent should
TYPE_CHECKING = False
if TYPE_CHECKING:
    from sshmap.client.cluster import Cluster

__all__ = ["Cluster", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Cluster":
        from sshmap.client.cluster import Cluster  # the rest of the package, only when it is used

        return Cluster
    raise AttributeError(f"module 'sshmap' has no attribute {name!r}")
