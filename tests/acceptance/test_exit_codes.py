"""Every exit code that the README names, provoked from the shell."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine, ended
from tests.acceptance.test_runs import Background, begun, held

README = Path(__file__).parents[2] / "README.md"
#: a program that makes every listing fail as only a bug could
BUG = "import sshmap.client.listing as l\nl.list_keys = l.list_buckets = lambda *a, **k: 1 / 0\n"
LINES = {
    0: "sshmap map sm://b/in/ sm://b/out/ cat && sshmap map sm://b/in/ sm://b/out/ cat",
    1: "sshmap map sm://b/in/ sm://b/failed/ false",
    2: "sshmap map sm://b/in sm://b/out/ cat",
    3: "sshmap -i unreachable.toml ls",
    4: "echo other | sshmap cp - sm://b/in/k",
    5: "sshmap cat sm://damaged/k",
    6: "sshmap -i full.toml cp file sm://b/in/k && sshmap -i full.toml map sm://b/in/ sm://b/o/ cat",
    7: "sshmap map --timeout 0.2s sm://b/in/ sm://b/late/ 'sleep 60'",
    70: "PYTHONPATH=bug sshmap ls",
    141: "sshmap exec yes | head -1 >/dev/null; exit ${PIPESTATUS[0]}",
}
SIGNALS = {129: signal.SIGHUP, 130: signal.SIGINT, 143: signal.SIGTERM}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Two hosts with a key and a damaged one, and what else the lines name."""
    with ended(CommandLine(tmp_path_factory.mktemp("codes"))) as commandline:
        commandline.environment["SSHMAP_LOCAL"] = "2"
        folder = commandline.folder
        (folder / "file").write_text("content\n")
        (folder / "unreachable.toml").write_text('[[hosts]]\nname = "far"\naddress = "127.0.0.1"\nport = 1\n')
        (folder / "full.toml").write_text(
            f'[[hosts]]\nname = "full"\nconnect = "local"\nroot = "{folder / "full"}"\nreserve = "900T"\n'
        )
        (folder / "bug").mkdir()
        (folder / "bug" / "sitecustomize.py").write_text(BUG)
        commandline.succeed("cp", "file", "sm://b/in/k")
        commandline.succeed("cp", "file", "sm://damaged/k")
        (damaged,) = commandline.state.glob("sshmap/local/2/*/data/damaged/k")
        damaged.chmod(0o644)
        damaged.write_text("c0ntent\n")
        yield commandline
        commandline.run(["sshmap", "-i", "full.toml", "down", "--purge", "-y"])


def test_all_that_the_readme_names_are_provoked() -> None:
    table = re.findall(r"^\| ([0-9, ]+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    named = {int(code) for cell in table for code in cell.split(",")}
    assert named == LINES.keys() | SIGNALS.keys()


@pytest.mark.parametrize("code", LINES)
def test_line_exits_as_the_readme_says(typed: CommandLine, code: int) -> None:
    done = typed.shell(LINES[code])
    assert done.code == code, done.err


@pytest.mark.parametrize("code", SIGNALS)
def test_signal_exits_as_the_readme_says(typed: CommandLine, tmp_path: Path, code: int) -> None:
    gate = tmp_path / "gate"
    beside = Background(typed, "map", "sm://b/in/", f"sm://b/out{code}/", held(gate))
    begun(gate)
    beside.signal(SIGNALS[code])
    assert beside.end().code == code
    gate.touch()
    typed("wait")
