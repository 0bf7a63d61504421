"""What a recipe's function makes: steps with names of their own, tables that read what steps write."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.errors import UsageError
from sshmap.functions import Input, Output
from sshmap.recipe import Data, Files, Table, recipe
from sshmap.recipe.flow import Flow, Place
from sshmap.recipe.graphs import bars, mermaid, text


def count(rows: Input, out: Output) -> None:
    out.write("1")


@pytest.fixture
def files() -> Files:
    return Files("texts", Flow("words"), "*.txt")


def flow_of(data: Data) -> Flow:
    return data._flow


def test_step_of_a_function_is_called_after_it(files: Files) -> None:
    step = files.map(count)
    assert step.name == "count"
    assert [one.name for one in flow_of(files).steps] == ["count"]


@pytest.mark.parametrize("name", ["", "a/b", ".", "..", "-a", "a b", "é", "a\n"])
def test_what_can_be_no_part_of_a_keys_name_is_refused(files: Files, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a step"):
        files.map(name, "cat")


def test_name_is_given_once(files: Files) -> None:
    files.map("one", "cat")
    for name in ("one", "texts"):
        with pytest.raises(UsageError, match="two parts of recipe words are called"):
            files.map(name, "cat")


@pytest.mark.parametrize("odd", [functools.partial(count), lambda rows, out: None])
def test_what_is_no_function_with_a_name_is_no_step(files: Files, odd: object) -> None:
    with pytest.raises(UsageError, match=r"is no (name for a step|function with a name)"):
        files.map(odd)  # type: ignore[arg-type]


def test_part_of_the_steps_is_what_leads_to_one_or_comes_of_it(files: Files) -> None:
    first = files.map("first", "cat")
    bounds = first.merge("bounds", "xargs cat")
    files.fanout("split", "cat > x; echo x", shipped=[bounds]).merge("last", "xargs cat")
    files.map("other", "cat")
    flow = flow_of(files)
    assert [step.name for step in flow.needed()] == ["first", "bounds", "split", "last", "other"]
    assert [step.name for step in flow.needed(last="split")] == ["first", "bounds", "split"]
    assert [step.name for step in flow.needed(first="bounds")] == ["bounds", "split", "last"]
    assert [step.name for step in flow.needed(first="bounds", last="split")] == ["bounds", "split"]
    with pytest.raises(UsageError, match="step first is not made from last"):
        flow.needed(first="last", last="first")
    with pytest.raises(UsageError, match="has no step 'nothing'"):
        flow.needed(first="nothing")
    assert "    bounds -.-> split" in mermaid(flow).splitlines()
    assert "├─ split  fanout, with bounds" in text(flow).splitlines()


def test_place_of_keys_follows_from_four_names() -> None:
    assert Place(environment="dev", recipe="words", dataset="d").prefix("count") == "sm://dev/words/d/count/"


@pytest.mark.parametrize(
    ("separator", "content", "rows"),
    [
        (None, "a 1\nb  2.5\n", [("a", 1), ("b", 2.5)]), (" ", " 1\n", [(None, 1)]), (",", '"x, y",007\n', [("x, y", "007")]),
        (",", "a\u2028b,-0.5\n", [("a\u2028b", -0.5)]), (",", "1e5,00.5\n", [("1e5", "00.5")]), (",", "", []), (",", "a,٣\n", [("a", "٣")]),
        (",", "1e-05,-2e+16\n", [(0.00001, -2e16)]), (",", "1.0e400,2e10\n", [("1.0e400", "2e10")]),
    ],
)  # fmt: skip
def test_table_reads_what_steps_write(
    files: Files, separator: str | None, content: str, rows: list[tuple[object, ...]]
) -> None:
    table = files.table("name", "value", separator=separator)
    assert [tuple(row.values()) for row in table.rows(content)] == rows


def test_line_with_other_columns_is_refused(files: Files) -> None:
    with pytest.raises(UsageError, match="texts has a line of 3 values, the table 2 columns"):
        files.table("a", "b").rows("1 2 3\n")


def test_picture_is_of_columns_that_are_there(files: Files) -> None:
    with pytest.raises(UsageError, match="the table has no column 'c'"):
        files.table("a", "b").bars("a", "c")


def test_bars_are_as_long_as_their_values() -> None:
    assert bars(["a", "bb", "c"], [8.0, 4.0, -1.0], width=8).splitlines() == [" a ████████", "bb ████", " c"]
    assert bars(["a"], [0.0]) == "a"
    assert bars(["a", "b"], [2.0, 1.0], width=3, encoding="latin-1").splitlines() == ["a ###", "b ##"]
    assert bars([], []) == ""
    assert bars(["a", "b"], [16.0, 1.0], width=2).splitlines()[1] == "b ▏"


def test_unknown_parameter_is_refused(tmp_path: Path) -> None:
    @recipe
    def words(texts: Files, least: int = 0) -> Table:
        """Words."""
        return texts.map("count", "wc").table("n")

    with (
        Cluster(local=1, autostart=False) as cluster,
        pytest.raises(UsageError, match="recipe words has no parameter 'leest'"),
    ):
        words.run(cluster, texts=tmp_path, leest=1)


@pytest.mark.parametrize("packages", ["xyz", ["-r x"], [3]])
def test_packages_are_looked_at_when_the_recipe_is_called(files: Files, packages: list[str]) -> None:
    with pytest.raises(UsageError, match="is no"):
        files.map(count, packages=packages)
