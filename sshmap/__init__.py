"""sshmap turns a list of plain SSH hosts into a data-processing cluster.

Reading order: `model` and `placement` (the words), `job_checks`, `limits`, `functions` (what Python steps get), `errors`, `inventory`, `protocol` (one page),
`store` (what lies on a host), `agent` (what runs there), `transport` (the way there),
`client` (asks every host at once), `cli` (what a person types), `recipe` (scripts of several steps), `version`.

The walk of ``sshmap map``, from the keyboard to bash and back; docs/architecture.md says what happens in each file:

`cli/verbs_jobs.py` → `client/cluster.py` → `client/jobs.py` → `client/conversations.py` →
`transport/session.py` → `agent/session/server.py` → `agent/session/jobs.py` →
`agent/session/planning.py` → `agent/session/expand.py` → `store/tasks.py` →
`agent/daemon/worker.py` → `agent/daemon/attempt.py` → `agent/execution/commands.py` →
`agent/execution/server.py` → `agent/execution/bash.py` → `agent/daemon/outputs.py` →
`agent/daemon/commits.py` → `agent/session/following.py` → `cli/printers.py`.

Importing this module is quick; `Cluster` is loaded when it is first used.
"""

from __future__ import annotations

from sshmap.version import __version__

#: stands for `typing.TYPE_CHECKING`: importing typing would slow down the start of every agent
TYPE_CHECKING = False
if TYPE_CHECKING:
    from sshmap.client.cluster import Cluster

__all__ = ["Cluster", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Cluster":
        from sshmap.client.cluster import Cluster  # loads most of the package, so only when it is used

        return Cluster
    raise AttributeError(f"module 'sshmap' has no attribute {name!r}")
