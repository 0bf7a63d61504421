"""The night of docs/night_job.md, typed line by line at three sshd hosts, one of which is switched off meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests import sshd
from tests.acceptance.conftest import CommandLine
from tests.acceptance.test_first_session import session
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts
PAGE = Path(__file__).parents[2] / "docs" / "night_job.md"
#: seconds that a line may take
LIMIT = 90
#: what the page says of a host, and what the test does to it
OFF, ON = "# h1 is switched off", "# h1 is back"


def lines_of(page: str) -> list[tuple[str, list[str]]]:
    """Read what is typed, with the lines of here documents put to it, and what is done to a host."""
    page = re.sub(r"^# (.*)$", r"$ # \1", page, flags=re.MULTILINE)
    found: list[tuple[str, list[str]]] = []
    for line, shown in session(page):
        more = [text[2:] for text in shown if text.startswith("> ")]
        found.append(("\n".join([line, *more]), [text for text in shown if not text.startswith("> ")]))
    return found


def narrow(lines: list[str]) -> list[str]:
    """Sort lines, with one space wherever they have several."""
    return sorted(" ".join(line.split()) for line in lines)


def switch_off(hosts: SshdHosts) -> None:
    """End sshd and all that runs below a host's root."""
    host = hosts.hosts[1]
    host.stop()
    fleet.end_all_at(host.root)
    wait_until(lambda: not fleet.processes_at(host.root), what="processes of the host are left")


def test_night_goes_as_its_page_says(sshd_hosts: SshdHosts, typed: CommandLine) -> None:
    sshd_hosts.add(3)
    os.rename(sshd_hosts.write(sshd_hosts.inventory(workers=2)), typed.folder / "inventory.toml")
    for line, expected in lines_of(PAGE.read_text(encoding="utf-8")):
        if line == OFF:
            switch_off(sshd_hosts)
        elif line == ON:
            sshd_hosts.hosts[1].start()
        else:
            done = subprocess.run(
                ["bash", "-c", f"exec 2>&1\n{line}"], cwd=typed.folder, env=typed.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=False,
            )  # fmt: skip
            # sorted, as stdout and stderr are one here, and whatever the widths of columns are
            pattern = "\n".join(re.escape(one).replace("…", ".*") for one in narrow(expected))
            assert re.fullmatch(pattern, "\n".join(narrow(done.stdout.splitlines()))), f"{line}\n{done.stdout}"
