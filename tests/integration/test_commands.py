"""A command runs as `bash -c` would run it, and whatever it does, the next one on the worker is the next one: promise 19."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.agent.execution.commands import Commands
from sshmap.agent.execution.executor import Request, Result
from sshmap.agent.execution.once import PREAMBLE
from sshmap.agent.execution.plain import plain_words
from sshmap.agent.execution.shell import task_environment
from sshmap.model import Force
from tests.attacks import ATTACKS
from tests.conftest import wait_until
from tests.integration import fleet


class Place:
    """An executor with a directory for its commands."""

    def __init__(self, top: Path, path: str) -> None:
        self.work, self.stdin, self.stdout = top / "apart" / "work", top / "in", top / "out"
        self.work.mkdir(parents=True)
        self.stdin.write_bytes(b"content\n")
        self.environment = {**task_environment("h0", str(top)), "PATH": path}
        self.commands = Commands(self.environment)
        self.variables = {"SSHMAP_NAME": "$(touch pwned)", "filename": "a b\nc"}

    def run(self, command: str) -> tuple[Result, bytes]:
        """Run a command and return what came of it, and its stdout."""
        self.stdout.write_bytes(b"")
        request = Request(
            command=command,
            folder=str(self.work),
            stdin=str(self.stdin),
            stdout=str(self.stdout),
            variables=self.variables,
        )
        result = self.commands.run(request, lambda: Force.WAIT)
        return result, self.stdout.read_bytes() if self.stdout.exists() else b""

    def told(self, command: str) -> tuple[int, bytes, bytes]:
        """Return exit code, stdout and stderr of a command as the executor runs it."""
        result, output = self.run(command)
        return result.exit_code, output, result.stderr

    def bash(self, command: str) -> tuple[int, bytes, bytes]:
        """Return exit code, stdout and stderr of a command as `bash -c` runs it."""
        with self.stdin.open("rb") as stdin:
            done = subprocess.run(
                ["bash", "--norc", "--noprofile", "-c", f"{PREAMBLE}; {command}", "bash"],
                stdin=stdin, capture_output=True, cwd=self.work, env=self.environment | self.variables, check=False,
            )  # fmt: skip
        code = done.returncode
        return code if code >= 0 else 128 - code, done.stdout, done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose PATH begins with directories that hold programs of every kind."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "shut").write_text("#!/bin/sh\necho first\n")
    (first / "hidden").mkdir()
    for name, text in {
        "hidden": "#!/bin/sh\necho second\n",
        "headless": 'echo "no head: $0 $#"\n',
        "lost": "#!/no/such/interpreter\n",
        "crash": "#!/bin/sh\nkill -SEGV $$\n",
        "echo": "#!/bin/sh\necho not the builtin\n",
        "binary": "\x7fELF",
        "nothing": "",
    }.items():
        (second / name).write_text(text)
        (second / name).chmod(0o755)
    made = Place(tmp_path, f"{first}:{second}:{os.environ['PATH']}")
    with contextlib.closing(made.commands):
        yield made


COMMANDS = [
    "cat", "cat -", "cat nosuchfile", "nosuch", "nosuch 'a b'", "./nosuch", "/etc/passwd", "/etc", "shut", "hidden", "headless a 'b c'", "lost",
    "crash", "binary", "nothing", "echo hi", "/bin/echo -n hi", "printf '%s\\n' x", "true", "false", "/bin/false", "sh -c 'exit 7'",
    "sh -c 'kill -TERM $$'", "sh -c 'echo out; echo err >&2; exit 3'", "sh -c 'echo $0 $#' '' ''", "sh -c 'kill -PIPE $$'", "pwd", "/bin/pwd",
    "sort -r", "wc -c", "ls -A", "tr a-z A-Z", "sh -c 'echo \"$filename|$SSHMAP_NAME\"'", "sh -c 'umask; ulimit -n'", "sh -c 'trap'",
    "sh -c 'ls -l /proc/self/fd | wc -l'", "+x", "2", "a=b", "a=b cat", "x+y=z", "cat > f; cat f", "cat | wc -l; false", "exit 5", "cat *", "echo ~",
    "! true", "cat <(echo sub)", "f() { cat; }; f", "echo ${none}", "env -u _ | sort | grep -v '^SHLVL\\|^BASH'", "cd /; pwd", "false; echo no",
    "false || echo yes", "cat 'é'", "echo $((1/0))", "cat \"a b\"'c'", "[ -d . ]", "kill -9 $BASHPID",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_command_means_what_it_means_to_bash(place: Place, command: str) -> None:
    """Exit code, stdout and stderr are those of `bash -c`, whether a shell is started or not; twice, as the shell stays."""
    expected = place.bash(command)
    subprocess.run(["rm", "-f", place.work / "f"], check=True)
    assert place.told(command) == expected
    subprocess.run(["rm", "-f", place.work / "f"], check=True)
    assert place.told(command) == expected


def test_plain_program_has_the_environment_that_bash_gives(place: Place) -> None:
    """Also what bash sets by itself: PWD, SHLVL, and where it found the program."""
    assert plain_words("env")
    ours, theirs = place.told("env"), place.bash("env")
    assert sorted(ours[1].split(b"\n")) == sorted(theirs[1].split(b"\n"))


@pytest.mark.parametrize("path", ["bin:{}", ":{}", "{}:", ".:{}", "/nosuch:{}", "bin::{}", "~:{}"])
def test_program_is_found_where_bash_finds_it(tmp_path: Path, path: str) -> None:
    """PATH may hold directories relative to the working directory, and empty ones, which mean it."""
    place = Place(tmp_path, path.format(os.environ["PATH"]))
    (place.work / "bin").mkdir()
    for program in (place.work / "mine", place.work / "bin" / "mine"):
        program.write_text(f"#!/bin/sh\necho {program.relative_to(place.work)}\n")
        program.chmod(0o755)
    with contextlib.closing(place.commands):
        assert place.told("mine") == place.bash("mine")


@pytest.mark.parametrize(
    ("attack", "quick"), [*((attack, False) for attack in ATTACKS), *((attack, True) for attack in ATTACKS[::3])]
)
def test_next_command_is_the_next_command(place: Place, attack: str, quick: bool) -> None:
    """Whatever a command does to what runs it, those after it run as they were asked for, each once, and see none of it.

    After a quick command the next one is a child of the shell, else of the supervisor.
    """
    for _ in range(2 * quick):
        # the first may take long, as bash has to be started
        place.run("true; true")
    place.run(f"cat; {attack}")
    for number in range(3):
        place.work.chmod(0o700) if place.work.exists() else place.work.mkdir(parents=True)
        place.work.parent.chmod(0o700)
        place.stdin.write_bytes(b"content\n")
        place.variables = {"filename": f"number {number}"}
        log = place.stdin.with_name("log")
        command = f'echo "$filename" >> {log}; cat; umask; echo "$filename"'
        assert place.told(command) == (0, b"content\n0022\nnumber %d\n" % number, b"")
        assert place.told("cat") == (0, b"content\n", b"")
        assert log.read_text().splitlines()[number:] == [f"number {number}"]


@pytest.mark.parametrize(
    "command", ["sleep {mark}", "sh -c 'sleep {mark} & (setsid sleep {mark} &) ; exit 3'", "sleep {mark} & true"]
)
def test_nothing_runs_on_after_its_command(place: Place, command: str) -> None:
    """What a plain program left in the background is ended as what a shell left."""
    mark = f"400.{os.getpid()}"
    if "&" in command:
        place.run(command.format(mark=mark))
        assert not fleet.processes_marked(f"sleep {mark}")
    else:
        place.run(f"timeout 0.1 {command.format(mark=mark)}")
    place.commands.close()
    wait_until(lambda: not fleet.processes_marked(f"sleep {mark}"))


def test_executor_that_was_closed_begins_anew(place: Place) -> None:
    """An idle worker has no supervisor; its next command starts one."""
    before = fleet.children_of(os.getpid())
    assert place.told("cat")[0] == 0
    (supervisor,) = set(fleet.children_of(os.getpid())) - set(before)
    place.commands.close()
    assert not fleet.is_alive(supervisor)
    assert place.told("cat") == (0, b"content\n", b"")


@pytest.mark.parametrize("command", ["cat", "cat;"])
def test_supervisor_killed_between_commands_is_replaced(place: Place, command: str) -> None:
    """A command that was never begun has not failed."""
    before = fleet.children_of(os.getpid())
    assert place.told(command) == (0, b"content\n", b"")
    (supervisor,) = set(fleet.children_of(os.getpid())) - set(before)
    fleet.kill(supervisor)
    wait_until(lambda: not fleet.is_alive(supervisor))
    assert place.told(command) == (0, b"content\n", b"")


def test_supervisor_that_dies_before_it_hears_of_a_command_began_nothing(place: Place) -> None:
    """The command runs once, below the next supervisor."""
    before = fleet.children_of(os.getpid())
    place.told("cat")
    (supervisor,) = set(fleet.children_of(os.getpid())) - set(before)
    fleet.freeze(supervisor)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -9 {supervisor}"])
    log = place.stdin.with_name("log")
    with killer:
        assert place.told(f"echo ran >> {log}") == (0, b"", b"")
    assert log.read_text() == "ran\n"


def test_long_command_lets_its_worker_do_something_meanwhile(place: Place) -> None:
    calls: list[int] = []
    request = Request(
        command="sleep 0.2",
        folder=str(place.work),
        stdin=str(place.stdin),
        stdout=str(place.stdout),
        variables=place.variables,
    )

    def look() -> Force:
        calls.append(1)
        return Force.WAIT

    place.stdout.touch()
    place.commands.run(request, look)
    assert len(calls) >= 2


def test_memory_and_cpu_time_of_a_command_that_a_shell_runs_are_exact(place: Place) -> None:
    """Also if it is over before anybody could look; but for one that comes after a quick one."""
    burns = (
        "python3 -c 'import time; x = bytearray(50 << 20); [0 for _ in iter(lambda: time.process_time() < 0.1, False)]'"
    )
    for _ in range(2):
        result, _ = place.run(f"true; {burns} | cat; true")
        assert 50 << 20 < result.peak < 100 << 20
        assert 0.1 < result.user + result.system < 1.0
    for _ in range(2):
        result, _ = place.run("true; true")
        assert result.user + result.system < 0.05


def test_large_command_and_names_arrive_whole(place: Place) -> None:
    """Far beyond what a pipe or socket holds at once."""
    place.variables = {"filename": "n" * 100_000}
    text = "t" * 120_000
    assert place.told(f"cat > /dev/null; printf %s {text}; printf %s ${{#filename}}") == (
        0,
        f"{text}100000".encode(),
        b"",
    )


@pytest.mark.parametrize("command", ["sleep 0.4", "true; sleep 0.4; echo end"], ids=["plain", "shell"])
def test_signal_that_comes_when_its_command_has_ended_does_not_end_the_next(place: Place, command: str) -> None:
    place.run("true; true")
    (supervisor,) = (pid for pid in fleet.children_of(os.getpid()) if "supervisor.py" in fleet.arguments_of(pid))
    fleet.kill(supervisor, signal.SIGUSR2)
    assert place.told(command)[0] == 0
