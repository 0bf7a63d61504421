"""systemd's login service, which may be set to end all that a login has left (KillUserProcesses)."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

SECONDS = 5
LINGER = Path("/var/lib/systemd/linger")
_PROPERTY = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager", "KillUserProcesses")


def kills() -> bool:
    """Ask the login service whether it ends what a login leaves."""
    try:
        done = subprocess.run(
            ["busctl", "get-property", "org.freedesktop.login1", *_PROPERTY],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == b"b true"


def lingers() -> bool:
    """Say whether the user's own services go on without a login."""
    return (LINGER / getpass.getuser()).exists()


def outliving(argv: list[str]) -> list[str]:
    """Write out how to start a program that goes on after this login, where that needs more than a session of its own."""
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
