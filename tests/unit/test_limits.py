"""What a run is allowed: as it is typed, and what it comes to."""

from __future__ import annotations

import pytest

from sshmap.errors import UsageError
from sshmap.limits import (
    Limits,
    check_jobs,
    parse_duration,
    parse_halt,
    parse_size,
    parse_timeout,
    slots,
    write_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("3d", 259200), ("0.5s", 0.5)]
)
def test_time_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "ten", "-5", "5 m", "1m1h", "1e3", "inf"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="--older") as refused:
        parse_duration(text, "--older")
    assert "10m" in refused.value.hint


@pytest.mark.parametrize(("seconds", "text"), [(600, "10m"), (7200, "2h"), (90, "90s"), (0.5, "0.5s")])
def test_time_is_written_as_it_is_typed(seconds: float, text: str) -> None:
    assert write_duration(seconds) == text
    assert parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("500M", 500_000_000), ("2G", 2_000_000_000), ("2GiB", 2 << 30), ("1.5k", 1500), ("7", 7), ("1K", 1000)],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text, "--memfree") == size


@pytest.mark.parametrize("text", ["", "0", "G", "2X", "-1", "2 G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memfree"):
        parse_size(text, "--memfree")


def test_halt_is_written_as_gnu_parallel_writes_it() -> None:
    assert Limits(**parse_halt("now,fail=3")) == Limits(halt_now=True, halt_failed=3)  # type: ignore[arg-type]
    assert Limits(**parse_halt("soon,fail=10%")) == Limits(halt_percent=10)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "now", "now,fail=0", "later,fail=3", "soon,fail=-1", "soon,success=1"])
def test_other_halts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_halt(text)
    assert "soon,fail=3" in refused.value.hint


def test_failures_are_counted_as_a_number_or_a_share() -> None:
    assert [Limits(halt_failed=3).halts(failed, 1000) for failed in (0, 2, 3, 4)] == [False, False, True, True]
    assert [Limits(halt_percent=10).halts(failed, 50) for failed in (0, 4, 5)] == [False, False, True]
    assert not Limits().halts(1000, 1000)


def test_timeout_is_a_time_or_a_share_of_the_median() -> None:
    assert parse_timeout("10m") == {"timeout": 600}
    assert parse_timeout("300%") == {"timeout_percent": 300}
    with pytest.raises(UsageError, match="no time"):
        parse_timeout("0%")


@pytest.mark.parametrize(
    ("text", "most"), [("", 1 << 30), ("3", 3), ("50%", 4), ("200%", 16), ("+2", 10), ("1%", 1), ("+0", 8)]
)
def test_tasks_at_once_are_counted_by_cores(text: str, most: int) -> None:
    assert slots(text and check_jobs(text), cores=8) == most


@pytest.mark.parametrize("text", ["0", "0%", "-1", "many", "+", "50 %", "1.5"])
def test_no_tasks_at_once_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--jobs"):
        check_jobs(text)
