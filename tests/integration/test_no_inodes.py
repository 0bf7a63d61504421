"""A file system without a free inode: ad hoc commands say so in one line, and the host can be taken down."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.conftest import end_processes, wait_until
from tests.integration import fleet

INODES = 150
SSHMAP = f"{shlex.quote(sys.executable)} -m sshmap -i inventory.toml"
SCRIPT = f"""
mount -t tmpfs -o size=32m,nr_inodes={INODES} none full
echo content | {SSHMAP} cp - sm://in/k
until ! touch full/$((number += 1)) 2>/dev/null; do :; done
{SSHMAP} eval sm://in/k cat; echo "eval $?"
{SSHMAP} exec true; echo "exec $?"
{SSHMAP} cat sm://in/k; echo "cat $?"
{SSHMAP} down --purge -y; echo "down $?"
"""


def test_ad_hoc_commands_name_the_want_of_inodes(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (tmp_path / "inventory.toml").write_text(
        f'[[hosts]]\nname = "h0"\nconnect = "local"\nroot = "{full}/root"\nworkers = 1\n', encoding="utf-8"
    )
    # a mount namespace of its own, so that the file system goes with the last process
    unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        done = subprocess.run(
            [*unshare, "bash", "-c", SCRIPT], capture_output=True, text=True, timeout=100, check=False
        )
    finally:
        end_processes(full)
    assert done.stdout.split("\n") == ["eval 6", "exec 6", "content", "cat 0", "down 0", ""], done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert ["No space left on device" in line for line in errors] == [True, True]
    assert "Traceback" not in done.stderr
    wait_until(lambda: not fleet.processes_at(full), what="processes are left")
