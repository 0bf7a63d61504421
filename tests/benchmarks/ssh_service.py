"""Works on the ssh service itself: what a short command costs beside a bare login."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from tests.benchmarks.arena import Arena
from tests.benchmarks.login import ssh, ssh_argv
from tests.benchmarks.measure import Side, alternate, call
from tests.benchmarks.report import Row
from tests.sshd import TRANSPORTS

TIMES = 10
HOSTS = 64
#: logins that the ssh program does at a time
AT_ONCE = 16


def ssh_up(arena: Arena) -> Iterator[Row]:
    """Bring a host up that is up."""
    yield from _beside_login(arena, "up")


def ssh_ls(arena: Arena) -> Iterator[Row]:
    """List the buckets of one host."""
    arena.ssh_cluster(hosts=1)("cp", str(arena.tiny / "key000000"), "sm://in/")
    yield from _beside_login(arena, "ls")


def _beside_login(arena: Arena, verb: str) -> Iterator[Row]:
    """Run a command of one host through either transport, and ``true``."""
    clusters = [arena.ssh_cluster(transport, hosts=1) for transport in TRANSPORTS]
    ours = [Side(functools.partial(sshmap, verb)) for sshmap in clusters]
    *took, limit = alternate(TIMES, *ours, Side(lambda: ssh(arena.sshd(1), "true")))
    for transport, one in zip(TRANSPORTS, took, strict=True):
        yield Row(f"{verb}, 1 host, {transport} vs ssh true", one, limit, 3)


def ssh_health(arena: Arena) -> Iterator[Row]:
    """Look at many hosts at once."""
    count = arena.scaled(HOSTS)
    sshmap, hosts = arena.ssh_cluster(hosts=count), arena.sshd(count)
    ports = "\n".join(str(host.port) for host in hosts.hosts)
    words = ["xargs", f"-P{AT_ONCE}", "-I{}", *ssh_argv(hosts), "-p", "{}", "127.0.0.1", "true"]
    took, limit = alternate(3, Side(lambda: sshmap("health")), Side(lambda: call(words, feed=ports)))
    yield Row(f"health, {count} hosts vs ssh true", took, limit, 2)
