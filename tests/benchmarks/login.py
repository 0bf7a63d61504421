"""The ssh program by itself: the limit of whatever goes through sshd."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from tests.benchmarks.measure import call
from tests.sshd import SshdHosts


def ssh_argv(hosts: SshdHosts) -> list[str]:
    """Return the start of a command line that logs in, with the fastest cipher; ``-p PORT 127.0.0.1 CMD`` follow."""
    return ["ssh", "-F", str(hosts.ssh_config), "-c", "aes128-gcm@openssh.com"]


def login(hosts: SshdHosts, command: str, number: int = 0) -> list[str]:
    """Return the command line that runs a command on a host, the first unless told otherwise."""
    return [*ssh_argv(hosts), "-p", str(hosts.hosts[number].port), "127.0.0.1", command]


def ssh(hosts: SshdHosts, command: str) -> None:
    """Run a command on the first host."""
    call(login(hosts, command))


def pipe(hosts: SshdHosts, before: str, command: str, after: str) -> None:
    """Run a command on the first host between two pieces of shell text: ``cat big |``, ``> copy``."""
    call(["bash", "-c", f"set -o pipefail; {before} {shlex.join(login(hosts, command))} {after}"])


def at_once(lines: Iterable[str]) -> None:
    """Run some lines of shell text at the same time, to the end of all of them."""
    begin = "".join(f"({line}) & pids+=($!)\n" for line in lines)
    call(["bash", "-c", f'set -euo pipefail; pids=()\n{begin}for pid in "${{pids[@]}}"; do wait "$pid"; done'])
