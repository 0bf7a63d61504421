"""`shell` on a real host, over both transports: as a command, on a terminal, and what is left of it when its client is killed."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap import Cluster
from tests import sshd
from tests.acceptance.conftest import COMMAND, CommandLine
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import TRANSPORTS, SshdHosts

make_sshd_hosts = sshd.make_sshd_hosts

KEY = "sm://b/in/k"


@pytest.fixture(scope="module")
def hosts(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """A host that is up, with a key, and a failed task that left a pipe and a link beside its files."""
    hosts = make_sshd_hosts()
    hosts.add(1)
    with Cluster(hosts.inventory()) as cluster:
        assert cluster.up()[1] == {}
        cluster.put(b"content\n", KEY)
    return hosts


@pytest.fixture(params=TRANSPORTS)
def typed(hosts: SshdHosts, request: pytest.FixtureRequest, tmp_path: Path) -> CommandLine:
    """A command line whose inventory is this host."""
    (tmp_path / "typed").mkdir()
    commandline = CommandLine(tmp_path / "typed")
    commandline.environment["SSHMAP_INVENTORY"] = str(hosts.write(hosts.inventory(request.param)))
    return commandline


def test_command_has_what_a_task_has(typed: CommandLine) -> None:
    done = typed("shell", KEY, "-c", "cat; cat $SSHMAP_FILE; echo $SSHMAP_KEY $SSHMAP_HOST $filename; ls -A; exit 7")
    assert (done.code, done.out.decode()) == (7, f"content\ncontent\n{KEY} h0 k\n"), done.err


def test_terminal_is_passed_through_with_its_size_and_exit_code(typed: CommandLine) -> None:
    shown = typed.all_on_terminal("shell", KEY, answer="cat $SSHMAP_FILE; tty; stty -a | head -1; exit 4\n")
    assert "content" in shown
    assert "/dev/pts/" in shown
    assert "rows" in shown


def test_directory_of_a_failed_attempt_opens_though_it_holds_what_cannot_be_copied(typed: CommandLine) -> None:
    outdir = f"sm://b/out{time.monotonic_ns()}/"
    assert (
        typed(
            "map",
            "sm://b/in/",
            outdir,
            "echo half > part; mkfifo pipe; ln -s nowhere link; mkdir d; mkfifo d/pipe; exit 3",
        ).code
        == 1
    )
    shown = typed("shell", KEY, "--failed", "last", "-c", "cat part; ls -d d link part")
    assert (shown.code, shown.out) == (0, b"half\nd\nlink\npart\n"), shown.err


@pytest.mark.parametrize("pasted", [0, 300_000])
def test_terminal_of_a_killed_client_ends_whatever_was_typed_ahead(typed: CommandLine, pasted: int) -> None:
    """More than a terminal holds, for a command that does not read it."""
    mark = f"300.{time.monotonic_ns() % 1_000_000_000}"
    ours, its = os.openpty()
    with subprocess.Popen(
        [*COMMAND, "shell", KEY], stdin=its, stdout=its, stderr=its, cwd=typed.folder, env=typed.environment
    ) as client:
        os.close(its)
        threading.Thread(target=_swallow, args=(ours,), daemon=True).start()
        os.write(ours, f"sleep {mark}\n".encode())
        wait_until(lambda: any("bash" not in line for line in fleet.processes_marked(f"sleep {mark}").values()))
        _paste(ours, pasted)
        fleet.kill(client.pid)
    wait_until(lambda: not fleet.processes_marked(f"sleep {mark}"), limit=10, what="the command lives on")


def _paste(terminal: int, size: int) -> None:
    """Type many lines, as far as the client takes them."""
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + 1
    while size > 0 and time.monotonic() < deadline:
        try:
            size -= os.write(terminal, b"echo pasted\n" * 100)
        except BlockingIOError:
            wait_until(lambda: True)
    os.set_blocking(terminal, True)


def _swallow(terminal: int) -> None:
    try:
        while os.read(terminal, 65536):
            continue
    except OSError:
        return
