"""Progress where there is no terminal: a line now and then, and what it says."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable

import pytest

from sshmap.cli import progress
from sshmap.cli.progress import Manner, counting, following, hosts_counted, manner
from sshmap.client.following import JobProgress
from tests.conftest import wait_until


class Terminal(io.StringIO):
    """A stderr that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("quiet", "stream", "term", "how"),
    [
        (True, Terminal(), "xterm", Manner.NONE),
        (False, Terminal(), "xterm", Manner.DISPLAY),
        (False, Terminal(), "dumb", Manner.LINES),
        (False, Terminal(), "", Manner.LINES),
        (False, io.StringIO(), "xterm", Manner.LINES),
    ],
)
def test_manner_goes_by_terminal_and_quiet(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, term: str, how: Manner, *, quiet: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM", raising=False)
    assert manner(quiet=quiet) is how


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Lines come at once and again and again; returns those that were printed."""
    monkeypatch.setattr(progress, "_FIRST", (0.01, 0.02))
    monkeypatch.setattr(progress, "_THEN", 0.03)
    monkeypatch.setattr(progress, "_SHORT", 0.0)
    printed: list[str] = []

    def read() -> list[str]:
        printed.extend(capsys.readouterr().err.splitlines())
        return printed

    return read


def test_copy_says_how_far_it_is_and_how_long_it_takes(said: Callable[[], list[str]]) -> None:
    with counting("cp data", Manner.LINES, measure=lambda: (4, 4_000_000)) as report:
        report(1, 1_000_000)
        wait_until(lambda: any("1/4 keys, 1.0 MB" in line and "left" in line for line in said()), what="no line came")
        report(3, 3_000_000)
        wait_until(lambda: any("4/4 keys, 4.0 MB" in line for line in said()), what="no second line came")
    assert "left" not in said()[-1]
    assert all(line.startswith("cp data: ") and line.isprintable() for line in said())


def test_copy_whose_total_cannot_be_found_counts_all_the_same(said: Callable[[], list[str]]) -> None:
    def fail() -> tuple[int, int]:
        raise OSError

    with counting("cp x\x1b", Manner.LINES, measure=fail) as report:
        report(2, 0)
        wait_until(lambda: any("2 keys, 0 B" in line for line in said()), what="no line came")
    assert "\x1b" not in "".join(said())


def test_job_says_how_many_tasks_are_left(said: Callable[[], list[str]]) -> None:
    with following("map sm://in/", Manner.LINES) as report:
        report(JobProgress(total=10, done=4, failed=1, size=5000))
        wait_until(
            lambda: any("5 of 10 tasks, 1 failed, 5.0 kB" in line and "left" in line for line in said()), what="no line"
        )


def test_lines_end_with_what_they_tell_of(said: Callable[[], list[str]]) -> None:
    with counting("cp data", Manner.LINES):
        wait_until(said, what="no line came")
    wait_until(lambda: not any(thread.name == "progress" for thread in threading.enumerate()), what="a thread is left")


@pytest.mark.parametrize("how", [Manner.NONE])
def test_nothing_is_said_where_nothing_is_to_be(said: Callable[[], list[str]], how: Manner) -> None:
    with counting("cp", how) as report, following("map", how) as job, hosts_counted("up", 3, how) as step:
        report(1, 1)
        job(JobProgress(total=1))
        step(1, 0)
    assert said() == []


def test_line_is_printed_at_ten_seconds_a_minute_and_then_every_five() -> None:
    assert (progress._FIRST, progress._THEN) == ((10.0, 60.0), 300.0)
