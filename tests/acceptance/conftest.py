"""The real command, as a process of its own, on a built-in local cluster that lies below a test's own directory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import sshmap
from sshmap import Cluster
from tests.conftest import PLAIN, end_processes, processes_below, wait_until

PACKAGE = Path(sshmap.__file__).parent
#: seconds one command may take
LIMIT = 60
COMMAND = (sys.executable, "-m", "sshmap")
#: hosts of the local cluster that tests of recipes share
HOSTS = 2


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """Its stdout as lines."""
        return self.out.decode().splitlines()


class Terminal:
    """A terminal at which a command runs.

    Args:
        fd: our end.
        process: the command.
    """

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd, self._process = fd, process
        os.set_blocking(fd, False)
        self.shown = b""

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self._fd, 65536):
                self.shown += piece

    def await_shown(self, what: bytes) -> None:
        """Wait until something is shown."""

        def is_shown() -> bool:
            self._read()
            return what in self.shown

        wait_until(is_shown, what=f"{what!r} is not shown")

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def end(self) -> int:
        """Wait for the command's end, and return its exit code."""

        def is_over() -> bool:
            self._read()
            return self._process.poll() is not None

        wait_until(is_over, what="the command does not end")
        self._read()
        return int(self._process.returncode)


class CommandLine:
    """Runs commands in a directory of their own, in a user's environment.

    Args:
        folder: working directory; state and home lie below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.environment = {
            **PLAIN, "HOME": str(folder / "home"), "XDG_STATE_HOME": str(self.state), "XDG_CONFIG_HOME": str(folder / "config"),
            "PATH": f"{self._programs()}:{PLAIN['PATH']}",
        }  # fmt: skip

    def _programs(self) -> Path:
        """Make a directory in which `sshmap` is the package under test."""
        programs = self.folder / "programs"
        programs.mkdir()
        script = programs / "sshmap"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sshmap "$@"\n')
        script.chmod(0o755)
        (self.folder / "home").mkdir()
        return programs

    def __call__(self, *arguments: object, stdin: bytes = b"", **variables: str) -> Done:
        """Run sshmap with some arguments and environment variables."""
        return self.run([*COMMAND, *map(str, arguments)], stdin, variables)

    def shell(self, line: str) -> Done:
        """Run a line as it is typed."""
        return self.run(["bash", "-c", line])

    def run(self, command: list[str], stdin: bytes = b"", variables: Mapping[str, str] | None = None) -> Done:
        """Run any program."""
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env={**self.environment, **(variables or {})},
            timeout=LIMIT,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def on_terminal(self, *arguments: object, answer: str = "") -> Done:
        """Run sshmap with a terminal as stdin, at which something is answered."""
        ours, its = os.openpty()
        try:
            with subprocess.Popen(
                [*COMMAND, *map(str, arguments)], stdin=its, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                cwd=self.folder, env=self.environment,
            ) as process:  # fmt: skip
                os.write(ours, answer.encode())
                out, err = process.communicate(timeout=LIMIT)
                return Done(process.returncode, out, err.decode())
        finally:
            os.close(ours)
            os.close(its)

    def all_on_terminal(self, *arguments: object, answer: str = "") -> str:
        """Run sshmap with a terminal for all three streams, at which something is answered; return what it showed."""
        ours, its = os.openpty()
        shown = b""
        with subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdin=its, stdout=its, stderr=its, cwd=self.folder, env=self.environment
        ) as process:
            os.close(its)
            os.write(ours, answer.encode())
            # the terminal hangs up when the last process that has it open ends
            with contextlib.suppress(OSError):
                while piece := os.read(ours, 65536):
                    shown += piece
            process.wait(LIMIT)
        os.close(ours)
        return shown.decode()

    @contextlib.contextmanager
    def terminal(self, *arguments: object, **variables: str) -> Iterator[Terminal]:
        """Run sshmap with a terminal for all three streams, beside the test."""
        ours, its = os.openpty()
        with subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdin=its, stdout=its, stderr=its, cwd=self.folder,
            env={**self.environment, **variables}, start_new_session=True,
        ) as process:  # fmt: skip
            os.close(its)
            try:
                yield Terminal(ours, process)
            finally:
                process.kill()
                os.close(ours)

    def succeed(self, *arguments: object, stdin: bytes = b"") -> Done:
        """Run sshmap and look that it exits with 0."""
        done = self(*arguments, stdin=stdin)
        assert done.code == 0, done.err
        return done

    def finish(self) -> None:
        """Delete every cluster that was used; an error if something is left running."""
        clusters = self.state / "sshmap" / "local"
        used = [entry.name for entry in clusters.iterdir()] if clusters.exists() else []
        try:
            for size in used:
                self.succeed("--local", size, "down", "--purge", "-y")
            wait_until(lambda: not processes_below(self.folder), what="processes are left")
        finally:
            end_processes(self.folder)


@contextlib.contextmanager
def ended(commandline: CommandLine) -> Iterator[CommandLine]:
    """Delete what was made with a command line."""
    try:
        yield commandline
    finally:
        commandline.finish()


@pytest.fixture(scope="session")
def kept_state(plain_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the local cluster of `local_state` lies; whoever uses it first starts it, and at the very end nothing of it is left."""
    state = tmp_path_factory.mktemp("local") / "state"
    try:
        yield state
        if state.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_STATE_HOME", str(state))
                with Cluster(local=HOSTS) as cluster:
                    cluster.down(purge=True)
            wait_until(lambda: not processes_below(state), what="processes are left")
    finally:
        end_processes(state)


@pytest.fixture
def local_state(clean_environment: None, kept_state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state of a user whose local cluster runs already, as starting one takes longer than most tests; it is left without keys."""
    monkeypatch.setenv("XDG_STATE_HOME", str(kept_state))
    yield kept_state
    monkeypatch.setenv("XDG_STATE_HOME", str(kept_state))
    if kept_state.exists():
        with Cluster(local=HOSTS) as cluster:
            keys = cluster.where("sm://") if cluster.count("sm://").keys else []
            for bucket in {row.name.split("/")[2] for row in keys}:
                cluster.rm(f"sm://{bucket}/", recursive=True)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line of the test's own."""
    (tmp_path / "typed").mkdir()
    commandline = CommandLine(tmp_path / "typed")
    yield commandline
    commandline.finish()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line with files to copy, inventories to name, and keys: two good ones, their copies, a damaged one."""
    commandline = CommandLine(tmp_path_factory.mktemp("shared"))
    commandline.environment["SSHMAP_LOCAL"] = "2"
    folder = commandline.folder
    (folder / "file").write_text("content of a file\n")
    roots = commandline.state / "sshmap" / "local" / "2"
    hosts = [
        f'[[hosts]]\nname = "{name}"\nconnect = "local"\nroot = "{roots / name}"\n' for name in ("local1", "local0")
    ]
    (folder / "changed.toml").write_text("".join(hosts))
    (folder / "unreachable.toml").write_text('[[hosts]]\nname = "far"\naddress = "127.0.0.1"\nport = 1\n')
    try:
        commandline.succeed("cp", "-", "sm://in/a", stdin=b"one\n")
        commandline.succeed("cp", "-", "sm://in/b", stdin=b"two\n")
        commandline.succeed("cp", "-", "sm://damaged/k", stdin=b"three\n")
        commandline.succeed("map", "sm://in/", "sm://mapped/", "cat")
        damaged = next(roots.glob("*/data/damaged/k"))
        damaged.chmod(0o644)
        damaged.write_bytes(b"threw\n")
        yield commandline
    finally:
        commandline.finish()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, as building leaves files beside them."""
    top = tmp_path_factory.mktemp("dist")
    source = top / "source"
    names = [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        *(str(path.relative_to(PACKAGE.parent)) for path in package_files()),
    ]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((PACKAGE.parent / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(top), str(source)], check=True, timeout=2 * LIMIT)
    (found,) = top.glob("*.whl")
    return found


def package_files() -> list[Path]:
    """All files that belong to the package."""
    return [path for kind in ("*.py", "*.txt", "*.html", "py.typed") for path in PACKAGE.rglob(kind)]
