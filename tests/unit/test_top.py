"""The screen of `top`: hosts above, the oldest tasks below, the chosen one among them."""

from __future__ import annotations

from sshmap.cli.top import View
from sshmap.errors import HostLost
from sshmap.protocol.messages import Seen, TaskNow


def seen(size: int = 0, *tasks: TaskNow) -> Seen:
    return Seen(queued=7, sending=2, size=size, load=1.5, cores=4, free=3_000_000_000, tasks=tasks)


def task(key: str, seconds: float) -> TaskNow:
    return TaskNow(17, "abc", key, 1, seconds)


def test_hosts_stand_above_with_what_they_make_a_second() -> None:
    view = View()
    view.take({"h0": seen(1000)}, {}, 0.0)
    view.take({"h0": seen(5_001_000)}, {"h1": HostLost("it is gone")}, 2.0)
    head, host, lost, *_ = view.lines(0, 20)
    assert head.split()[:4] == ["host", "queued", "running", "sending"]
    assert host.split() == ["h0", "7", "0", "2", "2.5", "MB", "1.5/4", "3.0", "GB"]
    assert lost.split(maxsplit=1) == ["h1", "it is gone"]


def test_oldest_task_is_first_and_the_chosen_one_is_marked() -> None:
    view = View()
    view.take({"h0": seen(0, task("sm://in/young", 1)), "h1": seen(0, task("sm://in/old", 100))}, {}, 1.0)
    *_, old, young = view.lines(1, 20)
    assert ("old" in old, ">" in old) == (True, False)
    assert ("young" in young, ">sm://in/young" in young) == (True, True)


def test_chosen_task_stays_on_a_low_screen() -> None:
    view = View()
    view.take({"h0": seen(0, *(task(f"sm://in/k{number}", 100 - number) for number in range(50)))}, {}, 1.0)
    lines = view.lines(40, 10)
    assert len(lines) <= 10
    assert ">sm://in/k40" in lines[-1]


def test_what_hosts_say_cannot_drive_the_terminal() -> None:
    view = View()
    view.take({"h0": seen(0, task("sm://in/\x1b[2J", 1))}, {"h1": HostLost("\x1b]0;x")}, 1.0)
    assert not any("\x1b" in line for line in view.lines(0, 20))


def test_host_that_forgot_runs_makes_nothing_less() -> None:
    view = View()
    view.take({"h0": seen(1000)}, {}, 1.0)
    view.take({"h0": seen(10)}, {}, 1.0)
    assert view.rates == {"h0": 0.0}
