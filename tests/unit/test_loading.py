"""Rows that are loaded into SQLite: each once however often, all or none, and only where they fit."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sshmap.errors import Refused, UsageError
from sshmap.recipe.loading import Into, load

INTO = Into(table="months", keys=("month",))
ROWS = [{"month": "2018-01", "trips": 3, "amount": 1.5}, {"month": "2018-02", "trips": 4, "amount": None}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dev.sqlite"


def there(path: Path, query: str = "SELECT * FROM months ORDER BY 1") -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def test_rows_are_inserted_and_replaced_by_their_keys(path: Path) -> None:
    assert load(path, INTO, ROWS) == 2
    assert load(path, INTO, ROWS) == 2
    assert (
        load(
            path,
            INTO,
            [{"month": "2018-02", "trips": 5, "amount": 2.0}, {"month": "2018-03", "trips": 1, "amount": 0.0}],
        )
        == 3
    )
    assert there(path) == [("2018-01", 3, 1.5), ("2018-02", 5, 2.0), ("2018-03", 1, 0.0)]
    assert load(path, INTO, []) == 3


def test_table_of_keys_alone_is_loaded_too(path: Path) -> None:
    into = Into(table="months", keys=("month", "kind"))
    for _ in range(2):
        assert load(path, into, [{"month": "a", "kind": 1}, {"month": "a", "kind": 2}]) == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"month": None, "trips": 1}], "lacks a key"),
        ([{"month": "a", "trips": 1}, {"month": "a", "trips": 2}], "has the keys of another one"),
    ],
)
def test_rows_without_a_key_of_their_own_are_refused_and_nothing_is_loaded(
    path: Path, rows: list[dict[str, object]], said: str
) -> None:
    load(path, INTO, [{"month": "z", "trips": 9}])
    with pytest.raises(UsageError, match=said):
        load(path, INTO, [{"month": "b", "trips": 1}, *rows])
    assert there(path) == [("z", 9)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"month": "a", "trips": 1, "amount": 1.0, "tip": 1}], "new column tip"),
        ([{"month": "a", "trips": 1}], "column amount is gone"),
        ([{"month": "a", "trips": "many", "amount": 1.0}], "column trips is INTEGER, its values are TEXT"),
        ([{"month": "a", "trips": 1.5, "amount": 1.0}], "column trips is INTEGER, its values are REAL"),
    ],
)
def test_other_columns_are_refused_with_the_difference(path: Path, rows: list[dict[str, object]], said: str) -> None:
    load(path, INTO, ROWS)
    before = there(path)
    with pytest.raises(Refused, match=said):
        load(path, INTO, rows)
    assert there(path) == before


def test_columns_without_values_and_columns_of_text_take_what_comes(path: Path) -> None:
    """What a row happens to hold does not change what a column is."""
    load(path, INTO, [{"month": "a", "trips": 1, "zip": "007"}, {"month": "b", "trips": None, "zip": None}])
    load(path, INTO, [{"month": "c", "trips": None, "zip": 12}])
    load(path, Into(table="empty", keys=("key",)), [{"key": 1, "value": None}])
    assert there(path) == [("a", 1, "007"), ("b", None, None), ("c", None, "12")]


def test_other_keys_are_refused(path: Path) -> None:
    load(path, INTO, ROWS)
    with pytest.raises(Refused, match="the keys are month"):
        load(path, Into(table="months", keys=("trips",)), ROWS)


def test_new_column_is_added_when_that_is_said(path: Path) -> None:
    load(path, INTO, ROWS)
    assert load(path, INTO, [{"month": "2018-03", "trips": 1, "amount": 1.0, "tip": 0.5}], migrate=True) == 3
    assert there(path, "SELECT month, tip FROM months ORDER BY 1") == [
        ("2018-01", None),
        ("2018-02", None),
        ("2018-03", 0.5),
    ]
    with pytest.raises(Refused, match="column tip is gone"):
        load(path, INTO, ROWS, migrate=True)


@pytest.mark.parametrize("name", ['x"; DROP TABLE months; --', "a b", "1a", ""])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a table or column"):
        Into(table=name, keys=("a",)).check(["a"])
    with pytest.raises(UsageError, match="is no name for a table or column"):
        Into(table="t", keys=("a",)).check(["a", name])


@pytest.mark.parametrize("keys", [(), ("b",), ("a", "b")])
def test_keys_have_to_be_columns(keys: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="the keys of table t are"):
        Into(table="t", keys=keys).check(["a"])


def test_what_is_no_database_is_said(path: Path) -> None:
    path.write_text("no database at all, but long enough to look like one" * 100)
    with pytest.raises(UsageError, match=f"cannot load into {path}: file is not a database"):
        load(path, INTO, ROWS)


def test_killed_in_the_middle_leaves_nothing_half_done(path: Path) -> None:
    load(path, INTO, ROWS)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom sshmap.recipe.loading import Into, load\n"
        "def rows():\n    yield {'month': 'x', 'trips': 1, 'amount': 1.0}\n"
        "class Rows(list):\n    def __iter__(self):\n        for number, row in enumerate(list.__iter__(self)):\n"
        "            if self.armed and number == 500: os._exit(9)\n            yield row\n    armed = False\n"
        "rows = Rows({'month': f'm{n}', 'trips': n, 'amount': 1.0} for n in range(1000))\n"
        "import sshmap.recipe.loading as loading\n"
        "check = loading._check_keys\n"
        "def checked(*words):\n    check(*words)\n    rows.armed = True\n"
        "loading._check_keys = checked\nloading._kind = lambda values: 'INTEGER'\n"
        f"loading._fit = lambda *words, **how: None\nload(Path({str(path)!r}), Into(table='months', keys=('month',)), rows)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert [row[0] for row in there(path)] == ["2018-01", "2018-02"]
