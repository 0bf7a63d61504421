"""What `ps` shows of a process, set in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: sets its title and prints what the kernel says its arguments are
SCRIPT = """
from sshmap.agent.host.title import set_title
import sys
for role, root in zip(sys.argv[1::2], sys.argv[2::2]):
    set_title(role, root)
print(open("/proc/self/cmdline", "rb").read().rstrip(b"\\0").decode(), len(sys.argv), end="")
"""


def shown(*words: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it")
def test_role_and_root_are_shown_in_place_of_the_arguments() -> None:
    assert shown("worker 3", "/root/.sshmap") == "sshmap worker 3 /root/.sshmap 3"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it")
def test_later_title_replaces_the_former_one_whole() -> None:
    assert shown("a long role", "/with/a/long/root", "courier", "/r") == "sshmap courier /r 5"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it")
def test_title_that_is_too_long_is_cut() -> None:
    title, _, count = shown("worker", "/r" * 2000, "courier", "/s" * 3000).rpartition(" ")
    assert title.startswith("sshmap courier /s/s/s")
    assert len(title) <= len(SCRIPT) + 10_100
    assert count == "5"
