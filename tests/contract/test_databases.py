"""Rows that are loaded into databases of every kind: each once however often, all or none, and only where they fit."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from sshmap.errors import LockHeld, Refused, UsageError
from sshmap.recipe.databases import duck, named, sqlite
from sshmap.recipe.databases import postgresql as postgres
from sshmap.recipe.loading import Into, Rows, load
from tests import postgresql
from tests.postgresql import Server

postgresql_server = postgresql.postgresql_server

KINDS = ("sqlite", "duckdb", "parquet", "postgresql")
INTO = Into(table="months", keys=("month",))
ROWS = [{"month": "2018-01", "trips": 3, "amount": 1.5}, {"month": "2018-02", "trips": 4, "amount": None}]
#: seconds
LIMIT = 60
#: loads the rows that it is told on stdin; "dies" has it be killed before the end of the transaction, "holds" wait there
CHILD = """
import contextlib, json, os, signal, sys
from sshmap.errors import SshmapError
from sshmap.recipe.databases import named
from sshmap.recipe.loading import Into, load

class Odd:
    def __init__(self, database):
        self.types, self.mark, self.name, self.columns = database.types, database.mark, database.name, database.columns
        self.whole = database.transaction

    @contextlib.contextmanager
    def transaction(self, table):
        with self.whole(table) as cursor:
            yield cursor
            if sys.argv[2] == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            print("holds", flush=True)
            sys.stdin.readline()

database = named(sys.argv[1])
print("ready", flush=True)
rows = json.loads(sys.stdin.readline())
print(load(database if sys.argv[2] == "loads" else Odd(database), Into(table="months", keys=("month",)), rows))
"""


class Place:
    """A database for one test.

    Args:
        name: what it is called.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.types = named(name).types

    def load(self, rows: Rows, into: Into = INTO, *, migrate: bool = False) -> int:
        """Load rows."""
        return load(named(self.name), into, rows, migrate=migrate)

    def rows(self, columns: str = "*") -> list[tuple[Any, ...]]:
        """Return the rows that are there, in order, as others read them."""
        if "://" in self.name:
            return postgresql.rows(self.name, f"SELECT {columns} FROM months ORDER BY 1")
        if self.name.endswith(".sqlite"):
            with contextlib.closing(sqlite3.connect(self.name)) as db:
                return db.execute(f"SELECT {columns} FROM months ORDER BY 1").fetchall()
        file, table = (":memory:", f"'{self.name}'") if self.name.endswith(".parquet") else (self.name, "months")
        with contextlib.closing(duckdb.connect(file)) as connection:
            return connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()

    @contextlib.contextmanager
    def child(self, manner: str = "loads") -> Iterator[subprocess.Popen[str]]:
        """Start a process that is about to load."""
        argv = [sys.executable, "-c", CHILD, self.name, manner]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.kill()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database of each kind, which is empty."""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql_server")
        return Place(server.make_database())
    return Place(str(tmp_path / f"dev.{request.param}"))


def say(process: subprocess.Popen[str], rows: Rows) -> None:
    """Tell a child what to load, and go on."""
    assert process.stdin
    process.stdin.write(f"{json.dumps(rows)}\n")
    process.stdin.flush()


def many(mark: str, count: int = 8000) -> list[dict[str, object]]:
    """Return more rows than go into one statement."""
    return [{"month": f"{mark}{number}", "trips": number, "amount": number / 3} for number in range(count)]


def test_rows_are_inserted_and_replaced_by_their_keys(place: Place) -> None:
    assert place.load(ROWS) == 2
    assert place.load(ROWS) == 2
    more = [{"month": "2018-02", "trips": 5, "amount": 2.0}, {"month": "2018-03", "trips": 1, "amount": 0.0}]
    assert place.load(more) == 3
    assert place.rows() == [("2018-01", 3, 1.5), ("2018-02", 5, 2.0), ("2018-03", 1, 0.0)]
    assert place.load([]) == 3


def test_no_rows_make_no_table(place: Place) -> None:
    assert place.load([]) == 0
    assert place.load(ROWS) == 2


def test_many_rows_are_loaded_as_few_are(place: Place) -> None:
    for _ in range(2):
        assert place.load(many("m")) == 8000
    assert place.rows("count(*), count(DISTINCT month), sum(trips)") == [(8000, 8000, sum(range(8000)))]


def test_table_of_keys_alone_is_loaded_too(place: Place) -> None:
    into = Into(table="months", keys=("month", "kind"))
    for _ in range(2):
        assert place.load([{"month": "a", "kind": 1}, {"month": "a", "kind": 2}], into) == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"month": None, "trips": 1}], "lacks a key"),
        ([{"month": math.nan, "trips": 1}], "lacks a key"),
        ([{"month": "a", "trips": 1}, {"month": "a", "trips": 2}], "has the keys of another one"),
        ([{"month": 1, "trips": 1}, {"month": "1", "trips": 2}], "has the keys of another one"),
    ],
)
def test_rows_without_keys_of_their_own_are_refused_and_nothing_is_loaded(
    place: Place, rows: list[dict[str, object]], said: str
) -> None:
    place.load([{"month": "z", "trips": 9}])
    with pytest.raises(UsageError, match=said):
        place.load([{"month": "b", "trips": 1}, *rows])
    assert place.rows() == [("z", 9)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"month": "a", "trips": 1, "amount": 1.0, "tip": 1}], "new column tip"),
        ([{"month": "a", "trips": 1}], "column amount is gone"),
        ([{"month": "a", "trips": "many", "amount": 1.0}], "column trips is {int}, its values are {str}"),
        ([{"month": "a", "trips": 2**63, "amount": 1.0}], "column trips is {int}, its values are {str}"),
        ([{"month": "a", "trips": 1.5, "amount": 1.0}], "column trips is {int}, its values are {float}"),
    ],
)
def test_other_columns_are_refused_with_the_difference(place: Place, rows: list[dict[str, object]], said: str) -> None:
    place.load(ROWS)
    before = place.rows()
    with pytest.raises(Refused, match=said.format(**{kind.__name__: name for kind, name in place.types.items()})):
        place.load(rows)
    assert place.rows() == before


def test_columns_without_values_and_columns_of_text_take_what_comes(place: Place) -> None:
    """What a row happens to hold does not change what a column is."""
    place.load([{"month": "a", "trips": 1, "zip": "007"}, {"month": "b", "trips": None, "zip": None}])
    place.load([{"month": "c", "trips": None, "zip": 12}])
    place.load([{"month": 5, "trips": 2, "zip": 0.1}])
    assert place.rows() == [("5", 2, "0.1"), ("a", 1, "007"), ("b", None, None), ("c", None, "12")]


def test_column_that_had_no_values_is_one_of_text(place: Place) -> None:
    place.load([{"month": 1, "trips": None}])
    place.load([{"month": 2, "trips": 3}])
    assert place.rows() == [(1, None), (2, "3")]


def test_values_are_there_as_they_were(place: Place) -> None:
    text = "it's \"quoted\"; DROP TABLE months; --\n\t%s ? 'ÄÖ😀"
    largest = 2**63 - 1
    place.load(
        [
            {"month": 1, "whole": largest, "number": 1, "text": text, "long": 2**63, "mixed": 1},
            {"month": 2, "whole": -(2**63), "number": math.inf, "text": "", "long": 1, "mixed": "x"},
            {"month": 3, "whole": None, "number": math.nan, "text": None, "long": -(2**70), "mixed": 1.5},
        ]
    )
    assert place.rows() == [
        (1, largest, 1.0, text, str(2**63), "1"),
        (2, -largest - 1, math.inf, "", "1", "x"),
        (3, None, None, None, str(-(2**70)), "1.5"),
    ]


def test_text_with_a_zero_byte_is_loaded_or_refused_in_one_line(place: Place) -> None:
    rows: Rows = [{"month": "a", "trips": 1}, {"month": "b\0c", "trips": 1}]
    if "://" in place.name:
        with pytest.raises(UsageError, match=r"^cannot load into postgresql://ana@.*cannot contain NUL .*$"):
            place.load(rows)
        assert place.load([]) == 0
    else:
        assert place.load(rows) == 2
        assert place.rows()[1] == ("b\0c", 1)


def test_other_keys_are_refused(place: Place) -> None:
    place.load(ROWS)
    with pytest.raises(Refused, match="the keys are month"):
        place.load(ROWS, Into(table="months", keys=("trips",)))
    with pytest.raises(Refused, match="the keys are month"):
        place.load(ROWS, Into(table="months", keys=("month", "trips")))


def test_new_column_is_added_when_that_is_said(place: Place) -> None:
    place.load(ROWS)
    assert place.load([{"month": "2018-03", "trips": 1, "amount": 1.0, "tip": 0.5}], migrate=True) == 3
    assert place.rows("month, tip") == [("2018-01", None), ("2018-02", None), ("2018-03", 0.5)]
    with pytest.raises(Refused, match="column tip is gone"):
        place.load(ROWS, migrate=True)


def test_killed_before_the_end_of_the_transaction_leaves_nothing(place: Place) -> None:
    place.load(ROWS)
    before = place.rows()
    with place.child("dies") as process:
        process.communicate(f"{json.dumps(many('x'))}\n", timeout=LIMIT)
    assert process.returncode == -signal.SIGKILL
    assert place.rows() == before
    assert place.load(ROWS) == 2


def test_killed_while_it_makes_the_table_it_is_made_by_the_next(place: Place) -> None:
    with place.child("dies") as process:
        process.communicate(f"{json.dumps(ROWS)}\n", timeout=LIMIT)
    assert place.load(ROWS) == 2


def test_killed_at_any_moment_there_is_all_or_nothing_and_the_next_one_loads(place: Place) -> None:
    dice = random.Random(place.name.rpartition(".")[2])
    for number in range(5):
        mark = f"round{number}-"
        with place.child() as process, contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(f"{json.dumps(many(mark, 4000))}\n", timeout=dice.uniform(0, 0.5))
        assert place.load(ROWS) in {2 + 4000 * full for full in range(number + 2)}
        counts = place.rows(f"count(*) FILTER (WHERE month LIKE '{mark}%')")
        assert counts in ([(0,)], [(4000,)])


def test_processes_that_load_at_once_into_a_new_table_lose_nothing(place: Place) -> None:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(place.child()) for _ in range(4)]
        for number, child in enumerate(children):
            say(child, [*many(f"c{number}-", 500), *many("shared", 500)])
        counts = [int(child.communicate(timeout=LIMIT)[0]) for child in children]
    assert sorted(counts) == [1000, 1500, 2000, 2500]
    assert place.rows("count(*), count(DISTINCT month)") == [(2500, 2500)]


def test_what_others_load_into_all_the_time_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite, duck, postgres):
        monkeypatch.setattr(module, "PATIENCE", 1)
    place.load(ROWS)
    with place.child("holds") as process:
        say(process, many("x", 10))
        assert process.stdout
        assert process.stdout.readline() == "holds\n"
        with pytest.raises(LockHeld, match=r"others have been using .*(dev|trips)"):
            place.load(ROWS)
        assert process.communicate("\n", timeout=LIMIT)[0] == "12\n"
    assert place.load(ROWS) == 12


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "parquet"])
def test_file_that_is_none_of_its_kind_is_said_and_left_as_it_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"dev.{kind}"
    path.write_text("no database at all, but long enough to look like one" * 100)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=rf"^cannot load into {path}: .*$"):
        Place(str(path)).load(ROWS)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "parquet"])
def test_directory_that_is_missing_is_said_and_not_made(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^cannot load into .*: (unable to open database file|No such file or directory)$"
    ):
        Place(str(tmp_path / "nowhere" / f"dev.{kind}")).load(ROWS)
    assert not (tmp_path / "nowhere").exists()


def test_parquet_file_of_somebody_else_has_no_keys(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "dev.parquet"))
    with contextlib.closing(duckdb.connect()) as connection:
        connection.execute(f"COPY (SELECT 'a' AS month, 1::BIGINT AS trips) TO '{place.name}'")
    with pytest.raises(Refused, match="table months does not fit: the keys are missing"):
        place.load([{"month": "b", "trips": 2}])
    assert place.rows() == [("a", 1)]


def test_parquet_file_holds_one_table(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "dev.parquet"))
    place.load(ROWS)
    before = place.rows()
    with pytest.raises(Refused, match=f"{place.name} holds table months, not years"):
        place.load(ROWS, Into(table="years", keys=("month",)))
    assert place.rows() == before


def test_parquet_file_keeps_its_place_behind_a_link_and_who_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "[1]*?'.parquet", tmp_path / "dev.parquet"
    link.symlink_to(real)
    place = Place(str(link))
    place.load(ROWS)
    real.chmod(0o600)
    place.load(ROWS)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert place.rows("count(*)") == [(2,)]
    assert sorted(os.listdir(real.parent)) == [f".{real.name}.lock", real.name]


def test_duckdb_file_that_another_program_has_open_is_said(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "dev.duckdb"))
    place.load(ROWS)
    code = (
        f"import duckdb, sys\nopened = duckdb.connect({place.name!r})\nprint('ready', flush=True)\nsys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(UsageError, match=rf"^cannot load into {place.name}: .*PID {process.pid}.*$"):
            place.load(ROWS)
        process.communicate("\n", timeout=LIMIT)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"password": "wrong%secret"}, 'password authentication failed for user "ana"'),
        ({"user": "secretary"}, 'password authentication failed for user "secretary"'),
        ({"name": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_postgresql_server_that_lets_nobody_in_is_said_in_one_line_without_the_password(
    postgresql_server: Server, how: dict[str, str], said: str
) -> None:
    address = postgresql_server.address(**{"name": "postgres", **how})
    with pytest.raises(UsageError, match=rf"^cannot load into postgresql://\w+@127.0.0.1:\d+/\w+: .*{said}$") as caught:
        load(named(address), INTO, ROWS)
    assert "psql 'postgresql://" in caught.value.hint
    assert "%" not in f"{caught.value}{caught.value.hint}"


def test_postgresql_server_that_is_not_there_or_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres._LIMITS, "connect_timeout", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for said in ("Connection refused", "timeout"):
            with pytest.raises(
                UsageError, match=rf"^cannot load into postgresql://ana@127.0.0.1:{port}/x: .*{said}.*$"
            ):
                load(named(f"postgresql://ana:secret@127.0.0.1:{port}/x"), INTO, ROWS)
            silent.listen()


def test_postgresql_server_that_ends_in_between_is_said_and_nothing_is_loaded(postgresql_server: Server) -> None:
    place = Place(postgresql_server.make_database())
    place.load(ROWS)
    others = "datname = current_database() AND pid <> pg_backend_pid()"

    def broken() -> None:
        with named(place.name).transaction("months") as cursor:
            cursor.execute("DELETE FROM months")
            postgresql.rows(place.name, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            cursor.execute("DELETE FROM months")

    with pytest.raises(UsageError, match=r"^cannot load into .*terminating connection.*$"):
        broken()
    assert len(place.rows()) == 2


def test_postgresql_account_that_may_make_no_tables_is_said(postgresql_server: Server) -> None:
    address = postgresql_server.make_database()
    name = address.rpartition("/")[2]
    with psycopg.connect(address) as connection:
        connection.execute(f"CREATE ROLE reader_{name} LOGIN PASSWORD 'secret'")
    reader = postgresql_server.address(name, user=f"reader_{name}", password="secret")
    with pytest.raises(UsageError, match=r"^cannot load into .*: permission denied for schema public$"):
        load(named(reader), INTO, ROWS)


def test_postgresql_table_is_that_of_the_search_path(postgresql_server: Server) -> None:
    """As other schemas may have one of the same name."""
    address = postgresql_server.make_database()
    with psycopg.connect(address) as connection:
        connection.execute("CREATE SCHEMA other")
        connection.execute("CREATE TABLE other.months (something INTEGER)")
    assert load(named(address), INTO, ROWS) == 2
    with pytest.raises(Refused, match="column something is gone; the keys are missing; new column month"):
        load(named(f"{address}?options=-csearch_path%3Dother"), INTO, ROWS)
