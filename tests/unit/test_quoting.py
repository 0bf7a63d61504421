"""Where a path comes into a line that a shell, sshd or ssh reads, it stays one path, whatever it is called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sshmap.agent.host import peers
from sshmap.cli.app import Settings
from sshmap.model import typed
from sshmap.store.layout import Root
from sshmap.transport.launching import launch, launch_line
from sshmap.transport.target import Resolved, Target, forget_key

#: the inventory lets no root be called that
NAMES = ["plain", "a b", "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a'b", 'a"b', "50%h", "back\\slash", "*"]
LOGIN_SHELLS = ["sh", "bash"]


def plant(root: Path) -> Path:
    """Make a root whose launcher says how it was called."""
    root.mkdir(mode=0o700)
    (root / "agent").write_text('#!/bin/sh\necho "ran $1"\n', encoding="utf-8")
    return root


def run(shell: str, line: str) -> bytes:
    """Run a line in a login shell; return what it says."""
    done = subprocess.run([shell, "-c", line], capture_output=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
@pytest.mark.parametrize("name", NAMES)
def test_launcher_starts_whatever_its_root_is_called(tmp_path: Path, name: str, shell: str) -> None:
    root = plant(tmp_path / name)
    assert run(shell, launch_line(str(root), "peer")) == b"ran peer\n"
    assert not list(tmp_path.rglob("pwned"))


def unescaped(option: str) -> str:
    """Read a quoted option of authorized_keys as sshd does: a backslash counts before a double quote only."""
    assert option[0] == option[-1] == '"'
    assert '"' not in option[1:-1].replace('\\"', "")
    return option[1:-1].replace('\\"', '"')


@pytest.mark.parametrize("name", [name for name in NAMES if name != 'a"b'])
def test_forced_command_starts_the_launcher_and_nothing_else(tmp_path: Path, name: str) -> None:
    root = Root(plant(tmp_path / name))
    option = peers._start(root).removeprefix("restrict,command=") + 'h1"'
    assert run("sh", unescaped(option)) == b"ran peer=h1\n"
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("name", NAMES)
def test_ssh_reads_paths_in_options_as_they_are(tmp_path: Path, name: str) -> None:
    known = tmp_path / name / "known_hosts"
    target = Target(address="h", known_hosts=str(known), identity_file=str(tmp_path / name / "key"), config="none")
    done = subprocess.run(["ssh", "-G", *target.options(), "h"], capture_output=True, text=True, check=True)
    assert f"userknownhostsfile {known}\n" in done.stdout


def test_script_holds_nothing_that_a_login_shell_takes_for_more() -> None:
    script = launch("/r", "serve")[2]
    assert not {"'", "!", "\n"} & set(script)


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_root_below_home_is_found_wherever_the_login_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    plant(home / "r")
    (tmp_path / "elsewhere" / "r").mkdir(parents=True)
    monkeypatch.setenv("CDPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(shell, launch_line("~/r", "serve")) == b"ran serve\n"
    assert os.listdir(tmp_path / "elsewhere" / "r") == []


@pytest.mark.parametrize("name", [*NAMES, "new\nline"])
def test_command_of_a_hint_is_read_by_a_shell_as_it_was_meant(name: str) -> None:
    line = typed("printf", "%s", f"sm://b/{name}")
    assert run("bash", line) == f"sm://b/{name}".encode()


@pytest.mark.parametrize(
    ("name", "files", "line"),
    [
        ("far", (), "ssh-keygen -R far"),
        ("[127.0.0.4]:2203", ("~/.ssh/known_hosts",), "ssh-keygen -R '[127.0.0.4]:2203'"),
        ("far", ("/my keys", "/other"), "ssh-keygen -R far -f '/my keys'"),
    ],
)
def test_key_is_taken_out_of_the_file_that_new_ones_are_added_to(name: str, files: tuple[str, ...], line: str) -> None:
    resolved = Resolved(
        hostname="far", port=22, user="u", identity_files=(), identities_only=False, jumps=(), proxy_command="", key_name=name,
        known_hosts=tuple(os.path.expanduser(file) for file in files),
    )  # fmt: skip
    assert forget_key(resolved) == line


@pytest.mark.parametrize(
    ("words", "hint", "typed_hint"),
    [
        ((), "sshmap up", "sshmap up"),
        (
            ("-i", "my lab"),
            "look, then sshmap up; sshmap trust",
            "look, then sshmap -i 'my lab' up; sshmap -i 'my lab' trust",
        ),
        (("--local", "3"), "use the newer sshmap", "use the newer sshmap"),
        (("--local", "3"), "see ~/.sshmap up there", "see ~/.sshmap up there"),
        (("-i", r"a\1b"), "sshmap rm x", r"sshmap -i 'a\1b' rm x"),
    ],
)
def test_commands_of_a_hint_are_about_the_cluster_that_was_named(
    words: tuple[str, ...], hint: str, typed_hint: str
) -> None:
    assert Settings(words=words).typed(hint) == typed_hint
