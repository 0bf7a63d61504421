"""Logical dates: how they are written, which are meant, and where they stand in texts."""

from __future__ import annotations

import pytest

from sshmap.errors import UsageError
from sshmap.recipe import Day, Month
from sshmap.recipe.dates import Date, chosen


@pytest.mark.parametrize(
    ("kind", "text", "after"),
    [
        (Month, "2018-03", "2018-04"), (Month, "2018-12", "2019-01"), (Month, "2020-01", "2020-02"),
        (Day, "2018-03-01", "2018-03-02"), (Day, "2020-02-28", "2020-02-29"), (Day, "2018-12-31", "2019-01-01"),
    ],
)  # fmt: skip
def test_date_is_written_as_it_is_read_and_has_one_after_it(kind: type[Date], text: str, after: str) -> None:
    date = kind.parse(text)
    assert (str(date), str(date.after())) == (text, after)
    assert date < date.after()


@pytest.mark.parametrize("text", ["", "2018", "2018-3", "2018-13", "03-2018", "2018-03-01", " 2018-03", "2018-03 "])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no date"):
        Month.parse(text)


def test_range_ends_before_its_stop() -> None:
    dates = chosen(Month, "", "2018-11", "2019-02")
    assert list(map(str, dates)) == ["2018-11", "2018-12", "2019-01"]
    assert chosen(Day, "2018-03-01", "", "") == [Day.parse("2018-03-01")]


@pytest.mark.parametrize(
    "words",
    [
        ("", "", ""),
        ("2018-03", "2018-03", "2018-04"),
        ("2018-03", "", "2018-04"),
        ("", "2018-03", ""),
        ("", "", "2018-03"),
    ],
)
def test_one_way_of_naming_dates_is_needed(words: tuple[str, str, str]) -> None:
    with pytest.raises(UsageError, match="either --date, or --start and --stop"):
        chosen(Month, *words)


def test_empty_range_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no date from 2018-03 until 2018-03"):
        chosen(Month, "", "2018-03", "2018-03")


def test_text_is_filled_where_it_names_parts_of_the_date() -> None:
    assert Day.parse("2018-03-01").fill("{year}/{month}/{day} {date} {other} %s") == "2018/03/01 2018-03-01 {other} %s"
