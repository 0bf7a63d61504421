"""The files shipped with a job: read once, named by their base names, known by their digests."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash

from sshmap.client.attachments import attach, unshipped
from sshmap.errors import UsageError


def script(path: Path, content: str = "echo", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def test_files_are_sorted_by_name_and_known_by_digest(tmp_path: Path) -> None:
    paths = [script(tmp_path / "b.py", "two"), script(tmp_path / "d" / "a.py", "one")]
    found = attach(paths)
    assert [(each.file.name, each.path) for each in found] == [("a.py", paths[1]), ("b.py", paths[0])]
    assert [each.file.digest for each in found] == [xxhash.xxh3_128_digest(content) for content in (b"one", b"two")]
    assert attach([]) == []


@pytest.mark.parametrize(("mode", "executable"), [(0o644, False), (0o755, True), (0o744, True)])
def test_whether_a_file_can_be_run_is_kept(tmp_path: Path, mode: int, *, executable: bool) -> None:
    (found,) = attach([script(tmp_path / "run", mode=mode)])
    assert found.file.executable is executable


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path / "folder", "Is a directory")):
        with pytest.raises(UsageError, match=f"cannot read {path}: {reason}"):
            attach([path])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"two files are named 'a\.py'") as caught:
        attach([script(tmp_path / "a.py"), script(tmp_path / "d" / "a.py")])
    assert "base name" in caught.value.hint


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("python clean.py | sort", ["clean.py"]),
        ("./clean.py", ["./clean.py"]),
        ("~/clean.py", ["~/clean.py"]),
        ("clean.py", []),
        ("cat; clean.py x", []),
        ("cat < clean.py > out", ["clean.py"]),
        ("awk -f 'clean.py' clean.py", ["clean.py"]),
        ("cat missing.py /etc/passwd", []),
        ("echo 'clean.py is fine'", []),
        ("echo 'clean.py", []),
    ],
)
def test_files_that_a_command_names_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, named: list[str]
) -> None:
    (tmp_path / "clean.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert unshipped(command, []) == named
    assert unshipped(command, [tmp_path / "elsewhere" / "clean.py"]) == []


def test_files_elsewhere_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts have programs and data of their own at absolute names, unless these are below the home directory."""
    home, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
        (folder / "clean.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    assert unshipped(f"python {elsewhere}/clean.py", []) == []
    assert unshipped(f"python {home}/clean.py; python {home}/clean.py", []) == [f"{home}/clean.py"]
    assert unshipped("python own/clean.py", []) == ["own/clean.py"]
    assert unshipped("python own/", []) == []
