"""The first session of docs/first_session.md, typed line by line by a user who has four accounts and the wheel."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

import pytest

from tests.accounts import HOSTS, Accounts

PAGE = Path(__file__).parents[2] / "docs" / "first_session.md"
#: seconds that the session may take
LIMIT = 300
#: what pip would fetch from an index, which need not be reached here: the packages of the tests' own environment
NEEDS = f"echo {sysconfig.get_path('purelib')} > $(echo ~/sshmap/lib/python3*/site-packages)/needs.pth"
ALONE = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def session(page: str) -> list[tuple[str, list[str]]]:
    """Read the lines that are typed on a page, and what is shown after each."""
    typed: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                typed.append((line[2:], []))
            else:
                typed[-1][1].append(line)
    return typed


def test_pages_lines_are_read() -> None:
    page = "text\n```console\n$ one\nshown\n$ two\n```\n"
    assert session(page) == [("one", ["shown"]), ("two", [])]


if os.geteuid() == 0:  # only root can make accounts

    @pytest.fixture
    def accounts(tmp_path: Path) -> Accounts:
        """Four hosts and a laptop."""
        return Accounts(tmp_path)

    def test_first_session_shows_what_its_page_says(accounts: Accounts, wheel: Path) -> None:
        (accounts.home("ana") / wheel.name).write_bytes(wheel.read_bytes())
        typed = session(PAGE.read_text(encoding="utf-8"))
        lines = ["exec 2>&1"]
        for number, (line, _) in enumerate(typed):
            lines += [f"echo '@@ {number}'", line, *([NEEDS] if "pip install" in line else [])]
        done = accounts.run("\n".join(lines) + "\necho '@@ end'\n", limit=LIMIT, **ALONE)
        assert done.stdout.endswith("@@ end\n"), (done.stdout, done.stderr)
        shown = re.split(r"^@@ .*\n", done.stdout, flags=re.MULTILINE)[1:-1]
        for (line, expected), text in zip(typed, shown, strict=True):
            # sorted, as stdout and stderr are one here
            pattern = "\n".join(re.escape(one).replace("…", ".*") for one in sorted(expected))
            assert re.fullmatch(pattern, "\n".join(sorted(text.splitlines()))), f"{line}\n{text}"
        for name in HOSTS:
            assert {path.name for path in accounts.home(name).iterdir()} <= {".ssh", ".bashrc"}
            assert "sshmap" not in (accounts.home(name) / ".ssh" / "authorized_keys").read_text()
