"""Commands on hosts that are ended from Python and over ssh, and leave nothing behind."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from sshmap import Cluster
from sshmap.client.commands import Heard
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import TRANSPORTS, SshdHosts

sshd_hosts = sshd.sshd_hosts


class Enough(Exception):  # it is no error
    """The caller has heard what it wanted."""


def test_a_callback_that_raises_ends_the_commands(shared: Cluster, bucket: str) -> None:
    def refuse(_: Heard) -> None:
        raise Enough

    with pytest.raises(Enough):
        shared.exec_lines(f"exec yes {bucket}-never-ending", refuse)
    wait_until(lambda: not fleet.processes_marked(f"{bucket}-never-ending"))
    assert {said.stdout for said in shared.exec("echo again").values()} == {b"again\n"}


def test_results_say_what_was_not_kept(shared: Cluster) -> None:
    spoken = shared.exec("echo 123456; echo 12 >&2; exit 4", limit=5)
    assert {(said.exit_code, said.stdout, said.stderr, said.dropped) for said in spoken.values()} == {
        (4, b"12345", b"12\n", 2)
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_host_goes_on_with_what_nobody_reads(sshd_hosts: SshdHosts, transport: str) -> None:
    sshd_hosts.add(2)
    mark = f"{transport}-never-ending"
    inventory = sshd_hosts.write(sshd_hosts.inventory(transport))
    assert fleet.sshmap(inventory, "up")[0] == 0
    line = f"{shlex.join([sys.executable, '-m', 'sshmap', '-i', str(inventory), 'exec', f'exec yes {mark}'])} | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=True)
    assert (done.stdout[4:], done.stderr) == (f"{mark}\n".encode(), b"")
    wait_until(lambda: not fleet.processes_marked(mark))
