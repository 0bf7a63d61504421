"""Progress where there is no terminal: a line now and then, and what it says."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable

import pytest

from sshmap.cli import progress
from sshmap.cli.progress import Manner, Oddities, counting, following, hosts_counted, manner
from sshmap.client.following import JobProgress
from sshmap.protocol.messages import Progress, Slow
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


PARTS = {
    "h1": Progress(done=3, failed=1, running=2, queued=4, size=5000, slow=(Slow("sm://in/x", 90, 10.0),)),
    "h0": Progress(done=7, size=100),
}


def test_each_host_has_a_line_of_its_own_where_that_is_wanted(said: Callable[[], list[str]]) -> None:
    with following("map", Manner.LINES, each=True) as report:
        report(JobProgress(total=20, done=10, failed=1, hosts=PARTS))
        wait_until(lambda: any(line.startswith("  h1:") for line in said()), what="no line")
    lines = said()
    place = next(place for place, line in enumerate(lines) if line.startswith("  h0:"))
    assert lines[place - 1].startswith("map: 11 of 20 tasks, 1 failed")
    assert lines[place : place + 2] == [
        "  h0: 7 done, 0 failed, 0 running, 0 queued, 100 B", "  h1: 3 done, 1 failed, 2 running, 4 queued, 5.0 kB",
    ]  # fmt: skip


def test_hosts_have_no_lines_where_that_is_not_wanted(said: Callable[[], list[str]]) -> None:
    with following("map", Manner.LINES) as report:
        report(JobProgress(total=20, done=10, hosts=PARTS))
        wait_until(lambda: any("of 20 tasks" in line for line in said()), what="no line")
    assert not [line for line in said() if line.startswith(" ")]


def named(*reports: JobProgress) -> list[str]:
    """Return what is said of slow tasks after some reports."""
    slow, lines = Oddities(), list[str]()
    for report in reports:
        slow.name(report, lines.append)
    return lines


def slow(host: str, *keys: str, seconds: int = 90) -> JobProgress:
    return JobProgress(hosts={host: Progress(slow=tuple(Slow(key, seconds, 10.0) for key in keys))})


def test_slow_task_is_named_once_however_long_it_takes() -> None:
    reports = [slow("h1", "sm://in/x", seconds=seconds) for seconds in (90, 91, 500)]
    said = "slow: sm://in/x on h1 has taken 1m30s, half of the others took less than 10.0s"
    assert named(*reports) == [said]


def test_slow_tasks_of_several_hosts_and_keys_are_each_named() -> None:
    lines = named(slow("h1", "sm://in/x", "sm://in/y"), slow("h2", "sm://in/x"), slow("h1", "sm://in/y"))
    assert [line.split()[1:4] for line in lines] == [
        ["sm://in/x", "on", "h1"], ["sm://in/y", "on", "h1"], ["sm://in/x", "on", "h2"],
    ]  # fmt: skip


def test_only_some_of_very_many_slow_tasks_are_named() -> None:
    reports = [slow("h1", *(f"sm://in/{number}" for number in range(start, start + 30))) for start in range(0, 300, 30)]
    assert len(named(*reports)) == progress._MOST_NAMED


def test_name_of_a_slow_task_cannot_drive_the_terminal() -> None:
    assert named(slow("h1", "sm://in/\x1b[2J\ndone: 9 ok")) == [
        r"slow: sm://in/\x1b[2J\ndone: 9 ok on h1 has taken 1m30s, half of the others took less than 10.0s"
    ]


@pytest.mark.parametrize(("how", "lines"), [(Manner.NONE, 0), (Manner.LINES, 1)])
def test_slow_tasks_are_named_at_once_unless_nothing_is_to_be_said(
    said: Callable[[], list[str]], how: Manner, lines: int
) -> None:
    with following("map", how) as report:
        report(slow("h1", "sm://in/x"))
        assert len([line for line in said() if line.startswith("slow: ")]) == lines


def test_title_and_hosts_cannot_begin_a_line_of_ours(said: Callable[[], list[str]]) -> None:
    with following("map sm://in/\x1b[A", Manner.LINES, each=True) as report:
        report(JobProgress(total=1, hosts={"h\x1b1": Progress(done=1)}))
        wait_until(lambda: any("of 1 tasks" in line for line in said()), what="no line")
    assert all(line.isprintable() for line in said())


def test_display_shows_a_bar_for_all_and_for_each_host_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with following("map [red]", Manner.DISPLAY, each=True) as report:
        for _ in range(3):
            report(JobProgress(total=20, done=10, failed=1, hosts=PARTS))
        wait_until(
            lambda: all(text in shown.getvalue() for text in ("11/20", "h1: 2 running, 1 failed", "4/10", "7/7"))
        )
    assert "map [red], 1 failed" in shown.getvalue()
    assert shown.getvalue().count("slow: ") == 1


def test_names_are_no_markup_of_the_display(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As markup, the first would be an error and the second a colour."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with following("map", Manner.DISPLAY) as report:
        report(slow("h1", "sm://in/[/x]", "sm://in/[red]y :smile:"))
    shown = capsys.readouterr().err
    assert "slow: sm://in/[/x] on h1" in shown
    assert "slow: sm://in/[red]y :smile: on h1" in shown


def test_host_whose_tasks_wait_for_memory_is_named_once() -> None:
    waits = [JobProgress(hosts={"h1": Progress(queued=3, short_of_memory=size)}) for size in (2_000_000_000, 1)]
    assert named(*waits) == ["tasks on h1 wait for memory, of which 2.0 GB are available"]
