"""The ssh program by itself: the limit of whatever goes through sshd."""

from __future__ import annotations

import shlex

from tests.benchmarks.measure import call
from tests.sshd import SshdHosts


def ssh_argv(hosts: SshdHosts) -> list[str]:
    """Return the start of a command line that logs in, with the fastest cipher; ``-p PORT 127.0.0.1 CMD`` follow."""
    return ["ssh", "-F", str(hosts.ssh_config), "-c", "aes128-gcm@openssh.com"]


def login(hosts: SshdHosts, command: str) -> list[str]:
    """Return the command line that runs a command on the first host."""
    return [*ssh_argv(hosts), "-p", str(hosts.hosts[0].port), "127.0.0.1", command]


def ssh(hosts: SshdHosts, command: str) -> None:
    """Run a command on the first host."""
    call(login(hosts, command))


def pipe(hosts: SshdHosts, before: str, command: str, after: str) -> None:
    """Run a command on the first host between two pieces of shell text: ``cat big |``, ``> copy``."""
    call(["bash", "-c", f"set -o pipefail; {before} {shlex.join(login(hosts, command))} {after}"])
