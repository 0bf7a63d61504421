"""What of a tree takes part in a copy, and the numbers before names."""

from __future__ import annotations

import pytest

from sshmap.client.choosing import Choice, Numbers, without_numbers
from sshmap.client.sources import Source
from sshmap.errors import UsageError
from sshmap.model import KeyName

PATHS = ["a.csv", "b.txt", "d/a.csv", "d/e/a.csv", "d/e/c", "x.csv/c"]


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ([], [], PATHS),
        (["*.csv"], [], ["a.csv", "d/a.csv", "d/e/a.csv", "x.csv/c"]),
        (["d"], [], ["d/a.csv", "d/e/a.csv", "d/e/c"]),
        (["d/"], [], ["d/a.csv", "d/e/a.csv", "d/e/c"]),
        (["d/*.csv"], [], ["d/a.csv"]),
        (["/a.csv"], [], ["a.csv", "d/a.csv", "d/e/a.csv"]),
        (["d/*"], ["e"], ["d/a.csv"]),
        ([], ["*.csv", "b.txt"], ["d/e/c"]),
        (["c", "b.txt"], [], ["b.txt", "d/e/c", "x.csv/c"]),
        (["[a-z].csv"], [], []),
        (["a.csvx"], [], []),
    ],
)
def test_globs_choose_paths_and_directories(include: list[str], exclude: list[str], taken: list[str]) -> None:
    choice = Choice(include=tuple(include), exclude=tuple(exclude))
    assert [path for path in PATHS if choice.takes(path)] == taken
    assert bool(choice) == bool(include or exclude)


def source(name: str, size: int) -> Source:
    return Source(name=KeyName(name), content=b"", size=size)


def numbered(stored: list[str], *sources: Source) -> list[str]:
    return [one.name for one in Numbers(stored).number(sources)]


def test_the_largest_gets_the_first_number() -> None:
    assert numbered([], source("b/small", 1), source("b/large", 9), source("b/d/mid", 5)) == [
        "b/0002_small", "b/0000_large", "b/d/0001_mid",
    ]  # fmt: skip


def test_equal_names_get_one_number_by_their_common_size() -> None:
    assert numbered([], source("b/x/a", 3), source("b/y/a", 3), source("b/x/c", 5)) == [
        "b/x/0000_a", "b/y/0000_a", "b/x/0001_c",
    ]  # fmt: skip


def test_what_is_stored_keeps_its_number_and_new_ones_count_on() -> None:
    stored = ["b/0007_a", "b/d/12_c", "b/other"]
    assert numbered(stored, source("b/a", 1), source("b/c", 1), source("b/new", 1), source("b/newer", 2)) == [
        "b/0007_a", "b/12_c", "b/0014_new", "b/0013_newer",
    ]  # fmt: skip


def test_names_that_begin_with_digits_are_numbered_too() -> None:
    assert numbered(["b/0003_2019_x"], source("b/2019_x", 1), source("b/2020_x", 1)) == [
        "b/0003_2019_x", "b/0004_2020_x",
    ]  # fmt: skip


def test_numbers_are_left_away_unless_two_names_would_be_one() -> None:
    assert without_numbers(["0007_a", "d/12_c", "plain", "5"]) == {
        "0007_a": "a", "d/12_c": "d/c", "plain": "plain", "5": "5",
    }  # fmt: skip
    with pytest.raises(UsageError, match="d/1_a and d/2_a are both d/a"):
        without_numbers(["d/1_a", "d/2_a"])


def test_choice_without_globs_takes_everything() -> None:
    choice = Choice()
    assert not choice
    assert all(choice.takes(path) for path in PATHS)


def test_numbers_that_are_stored_may_be_of_any_length() -> None:
    assert numbered(["b/123456_a"], source("b/a", 1), source("b/c", 1)) == ["b/123456_a", "b/123457_c"]
    assert numbered(["b/plain", "b/5"], source("b/c", 1)) == ["b/0000_c"]
