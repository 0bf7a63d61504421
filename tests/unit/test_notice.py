"""`--notify`: the figures that a command is given when a run has ended, and that it cannot change how sshmap ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from sshmap.cli import notice
from sshmap.cli.notice import figures, give
from sshmap.client.job_results import HostResult, JobFailed, JobResult, TaskFailure
from sshmap.errors import HostLost
from sshmap.model import Ending

FAILURE = TaskFailure(host="h1", key="sm://in/x", attempt=1, kind="CommandsFailed", message="exit 1", exit_code=1)


def result(*, failed: int = 0, ending: Ending | None = None, lost: bool = False) -> JobResult:
    """Return how a run on two hosts has ended."""
    hosts = {"h0": HostResult(done=3, failed=failed, kept=2, size=10), "h1": HostResult(done=4, cancelled=1, size=5)}
    return JobResult(
        job="j", number=17, inputs=9, hosts=hosts, failures=[FAILURE] * failed, ending=ending, seconds=12.34,
        lost={"h2": HostLost("down"), "h3": HostLost("down")} if lost else {},
    )  # fmt: skip


def test_figures_are_those_of_all_hosts() -> None:
    assert figures(result(), None) == {
        "SSHMAP_RUN": "17", "SSHMAP_STATE": "done", "SSHMAP_EXIT": "0", "SSHMAP_DONE": "7", "SSHMAP_FAILED": "0", "SSHMAP_KEPT": "2",
        "SSHMAP_CANCELLED": "1", "SSHMAP_BYTES": "15", "SSHMAP_SECONDS": "12.3", "SSHMAP_LOST": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "state", "code"),
    [
        (result(failed=2), "failed", "1"),
        (result(lost=True), "lost", "3"),
        (result(failed=2, lost=True), "lost", "3"),
        (result(ending=Ending.CANCELLED), "cancelled", "130"),
        (result(failed=2, ending=Ending.HALTED), "halted", "1"),
    ],
)
def test_state_and_exit_code_tell_how_it_ended(ended: JobResult, state: str, code: str) -> None:
    told = figures(ended, JobFailed(ended))
    assert (told["SSHMAP_STATE"], told["SSHMAP_EXIT"]) == (state, code)


def test_lost_hosts_are_named() -> None:
    assert figures(result(lost=True), None)["SSHMAP_LOST"] == "h2,h3"


def test_command_is_run_here_with_the_figures(tmp_path: Path) -> None:
    give('echo "$SSHMAP_RUN $SSHMAP_STATE $SSHMAP_DONE $HOME" > told; cat >> told', result(), None)
    assert (tmp_path / "told").read_text() == f"17 done 7 {tmp_path / 'home'}\n"


def test_nothing_is_run_where_no_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("something was run"))
    give("", result(), None)


def test_command_that_fails_is_noted_and_no_more(capfd: pytest.CaptureFixture[str]) -> None:
    give("echo said; exit 3", result(), None)
    assert capfd.readouterr() == ("said\n", "note: --notify exited with 3\n")


def test_command_that_takes_too_long_is_ended_and_noted(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice, "LIMIT", 0.05)
    give("exec cat < /dev/zero > /dev/null", result(), None)
    assert "note: --notify did not work" in capfd.readouterr().err
