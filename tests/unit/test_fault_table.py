"""The table of random faults."""

from __future__ import annotations

import pytest

from tests.fault.table import MOST, Row, Table


def fail() -> None:
    raise AssertionError("a key is torn")


def violate(row: Row, where: str) -> None:
    with row.watched(where):
        fail()


def test_each_fault_has_a_line_with_what_came_of_it() -> None:
    table = Table()
    for _ in range(3):
        table.add("kill", "1 5").take("exit 0")
        table.rows[-1].take("exit 3", "typed again")
    violate(table.rows[1], "here")
    heading, *lines = table.lines()
    assert heading.split() == ["fault", "promises", "injected", "outcome", "violations"]
    assert [line.split()[-1] for line in lines] == ["0", "1", "0"]
    assert "2         1 exit 0, 1 exit 3, 1 typed again" in lines[0]
    assert Table().lines() == []


def test_what_does_not_hold_fails_the_test_in_the_end_with_all_that_was_seen() -> None:
    row = Row("kill", "1 5")
    row.check()
    violate(row, "first")
    violate(row, "second")
    with pytest.raises(AssertionError, match=r"(?s)first: AssertionError: a key is torn.*second: "):
        row.check()


def test_fault_with_many_violations_is_injected_no_more() -> None:
    row = Row("kill", "1 5")
    for _ in range(MOST - 1):
        violate(row, "once more")
    with pytest.raises(AssertionError, match="once more"):
        violate(row, "once more")
