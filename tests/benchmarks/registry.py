"""The list of all works.

A work is a function that takes the arena and yields rows; it leaves the clusters as it found
them, but for inputs they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.benchmarks import (
    local_jobs,
    local_large,
    local_recipes,
    local_service,
    local_small,
    local_start,
    ssh_large,
    ssh_service,
    ssh_small,
)
from tests.benchmarks.arena import Arena
from tests.benchmarks.report import Row

Work = Callable[[Arena], Iterator[Row]]

#: local mode: no network, no sshd
LOCAL: tuple[Work, ...] = (
    local_small.map_tiny,
    local_small.cp_tiny,
    local_small.map_again,
    local_jobs.fanout_tiny,
    local_jobs.merge_tiny,
    local_jobs.map_many,
    local_start.job_start,
    local_large.cp_trips,
    local_large.map_trips,
    local_large.shuffle,
    local_recipes.function_tiny,
    local_recipes.recipe_again,
    local_recipes.group_by,
    local_recipes.sort,
    local_service.ls_many,
    local_service.ls_one,
    local_service.idle,
    local_service.idle_memory,
)

#: ssh mode: real sshd on loopback ports
SSH: tuple[Work, ...] = (
    ssh_small.ssh_map_tiny,
    ssh_small.ssh_fanout_tiny,
    ssh_small.ssh_cp_tiny,
    ssh_large.ssh_cp_big,
    ssh_large.ssh_cp_huge,
    ssh_large.ssh_cp_trips,
    ssh_large.ssh_shuffle,
    ssh_service.ssh_up,
    ssh_service.ssh_ls,
    ssh_service.ssh_health,
)

#: all works by name, in the order in which they run
WORKS: dict[str, Work] = {work.__name__.replace("_", "-"): work for work in LOCAL + SSH}
