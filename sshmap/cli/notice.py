"""`--notify`: a command that is run on this machine when a run has ended, for example one that sends a message."""

from __future__ import annotations

import os
import subprocess

from sshmap.cli.app import settings
from sshmap.client.job_results import JobFailed, JobResult

#: seconds that it may take
LIMIT = 60.0


def give(command: str, result: JobResult, failed: JobFailed | None) -> None:
    """Run a command with the figures of a run in its environment; that it fails is only noted.

    Args:
        command: shell command; nothing is done if it is empty.
        result: how the run has ended.
        failed: the error, if it is not complete.
    """
    if not command:
        return
    note = settings.printer().note
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command], env={**os.environ, **figures(result, failed)}, stdin=subprocess.DEVNULL, timeout=LIMIT,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        note(f"note: --notify did not work: {exc}")
        return
    if done.returncode:
        note(f"note: --notify exited with {done.returncode}")


def figures(result: JobResult, failed: JobFailed | None) -> dict[str, str]:
    """Return the variables that tell how a run has ended."""
    state = result.ending.value if result.ending else "lost" if result.lost else "failed" if result.failed else "done"
    return {
        "SSHMAP_RUN": str(result.number), "SSHMAP_STATE": state, "SSHMAP_EXIT": str(failed.exit_code if failed else 0),
        "SSHMAP_DONE": str(result.done), "SSHMAP_FAILED": str(result.failed), "SSHMAP_KEPT": str(result.kept),
        "SSHMAP_CANCELLED": str(result.cancelled), "SSHMAP_BYTES": str(result.size), "SSHMAP_SECONDS": f"{result.seconds:.1f}",
        "SSHMAP_LOST": ",".join(result.lost),
    }  # fmt: skip
