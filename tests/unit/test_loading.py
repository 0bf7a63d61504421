"""What is said about a table and its database before one is opened."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sshmap.errors import UsageError
from sshmap.recipe.databases import named
from sshmap.recipe.loading import Into


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dev.sqlite", "SQLite"), ("trips", "SQLite"), ("x.duckdb/y.db", "SQLite"), ("x.DuckDB", "DuckDB"), ("a.b.parquet", "Parquet"),
        ("postgresql://h/x", "PostgreSQL"), ("postgres://", "PostgreSQL"),
    ],
)  # fmt: skip
def test_kind_of_a_database_follows_from_its_name(name: str, kind: str) -> None:
    database = named(name)
    assert (type(database).__name__, database.name) == (kind, name)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ana:secret@h:5432/x", "postgresql://ana@h:5432/x"),
        ("postgres://ana:se:cret%40%2F@h1:1,[::1]:2/x", "postgres://ana@h1:1,[::1]:2/x"),
        ("postgresql://:secret@h", "postgresql://h"),
        ("postgresql://ana@h/x?password=secret&sslmode=require", "postgresql://ana@h/x"),
        ("postgresql:///x?host=/run/postgresql&user=ana&password=s/e@cret", "postgresql:///x"),
    ],
)
def test_password_of_an_address_is_not_shown(address: str, shown: str) -> None:
    assert named(address).name == shown


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ana:sec@ret@h/x", "postgresql://ana:se/cret@h/x", "postgresql://ana:sec#ret@h/x", "postgresql://ana:sec?ret@h/x",
        "postgresql://ana:secret/x", "postgresql://ana:secret", "postgresql://ana:sec ret@h/x", "postgresql://ana:sec%ret@h/x",
        "postgresql://ana:secret@h/x?unknown=secret", "postgresql://ana:secret@h:secret/x", "mysql://ana:secret@h/x", "POSTGRES://ana:secret@h/x",
    ],
)  # fmt: skip
def test_address_that_cannot_be_read_is_refused_without_any_part_of_its_password(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        named(address)
    said = f"{caught.value} {caught.value.hint}"
    assert "--database" in said
    assert not [part for part in ("sec", "cret", "ret@") if part in said]


@pytest.mark.parametrize(
    ("library", "name", "said"),
    [
        ("psycopg", "postgresql://ana:secret@h/x", "loading into postgresql://ana@h/x needs psycopg, which is not installed"),
        ("duckdb", "x.duckdb", "loading into x.duckdb needs duckdb, which is not installed"),
        ("duckdb", "x.parquet", "loading into x.parquet needs duckdb, which is not installed"),
    ],
)  # fmt: skip
def test_library_that_is_not_installed_is_named_with_what_brings_it(library: str, name: str, said: str) -> None:
    code = (
        f"import sys\nsys.modules[{library!r}] = None\nfrom sshmap.errors import UsageError\n"
        "from sshmap.recipe.databases import named\nnamed('dev.sqlite')\n"
        f"try:\n    named({name!r})\nexcept UsageError as exc:\n    print(exc, exc.hint, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    extra = "postgres" if library == "psycopg" else "duckdb"
    assert done.stdout.splitlines() == [said, f"type: pip install 'sshmap-cluster[{extra}]'"]


def test_libraries_are_not_imported_before_a_database_of_theirs_is_named() -> None:
    code = (
        "import sys\nimport sshmap.recipe\nfrom sshmap.recipe.databases import named\nnamed('dev.sqlite')\n"
        "print(*sorted({'duckdb', 'psycopg'} & set(sys.modules)))"
    )
    assert not subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
