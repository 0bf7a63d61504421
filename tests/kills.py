"""Killing whatever takes part in a command on real hosts, at random times."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Callable, Sequence

from sshmap.store.layout import Root
from tests.integration import fleet
from tests.pipeline import Fault, Pipeline

Client = subprocess.Popen[bytes]
#: seconds between two looks for a process that is not there yet
_LOOK = 0.05


def _ssh(client: Client, pipeline: Pipeline, host: int) -> Sequence[int]:
    """Return each `ssh` of the client, and of the host's courier."""
    courier = fleet.process_of(_root(pipeline, host), "courier")
    children = [*fleet.children_of(client.pid), *(fleet.children_of(courier) if courier else ())]
    return [pid for pid in children if fleet.arguments_of(pid).startswith("ssh ")]


def _session(client: Client, pipeline: Pipeline, host: int) -> Sequence[int]:
    """Return what an sshd has forked for those who are logged in."""
    return [pid for pid in pipeline.hosts[host].tree()[1:] if fleet.arguments_of(pid).startswith("sshd")]


def _of(role: str) -> Callable[[Client, Pipeline, int], Sequence[int]]:
    """Find the process of a role in the daemon."""

    def find(client: Client, pipeline: Pipeline, host: int) -> Sequence[int]:
        pid = fleet.process_of(_root(pipeline, host), role)
        return [pid] if pid else []

    return find


def _root(pipeline: Pipeline, host: int) -> Root:
    return pipeline.roots[pipeline.hosts[host].name]


#: by name: finds the processes on one of the hosts that may be killed
VICTIMS: dict[str, Callable[[Client, Pipeline, int], Sequence[int]]] = {
    "client": lambda client, _pipeline, _host: [client.pid],
    "ssh": _ssh,
    "sshd session": _session,
    "agent": _of("listener"),
    "manager": _of("daemon"),
    "worker": _of("worker"),
    "courier": _of("courier"),
    "supervisor": _of("supervisor"),
}


def is_over_after(client: Client, seconds: float) -> bool:
    """Let a command run for some time and say whether it ended meanwhile."""
    try:
        client.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def kill_at_random(pipeline: Pipeline, victim: str, dice: random.Random) -> Fault:
    """Return a fault that kills one process of some host at a time the dice choose."""

    def kill(client: Client, seconds: float) -> bool:
        if is_over_after(client, dice.uniform(0, seconds)):
            return False
        host = dice.randrange(len(pipeline.hosts))
        while not (found := VICTIMS[victim](client, pipeline, host)):
            if is_over_after(client, _LOOK):
                return False
        fleet.kill(dice.choice(found), signal.SIGKILL)
        return True

    return kill
