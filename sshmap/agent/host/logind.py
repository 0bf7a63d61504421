"""systemd's login service, which may be set to end a user's processes when the user logs out (KillUserProcesses)."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

SECONDS = 5
LINGER = Path("/var/lib/systemd/linger")
_PROPERTY = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager", "KillUserProcesses")


def kills() -> bool:
    """Ask the login service whether it ends a user's processes at logout."""
    try:
        done = subprocess.run(
            ["busctl", "get-property", "org.freedesktop.login1", *_PROPERTY],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"b true"


def lingers() -> bool:
    """Say whether the user's own services go on while the user is logged out (lingering)."""
    return (LINGER / getpass.getuser()).exists()


def outliving(argv: list[str]) -> list[str]:
    """Return a command line that starts a program so that it outlives this login: by systemd-run where that is needed."""
    if shutil.which("systemd-run") and kills() and lingers():
        return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--", *argv]
    return argv


def findings() -> tuple[tuple[str, str], ...]:
    """Return what is wrong, and what mends it."""
    if kills() and not lingers():
        return (
            (
                "the daemon ends with the login that starts it (KillUserProcesses)",
                "loginctl enable-linger, then sshmap up",
            ),
        )
    return ()
