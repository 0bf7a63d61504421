"""The tables of a recipe, as a person sees them, as JSON, and as pictures."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from sshmap.cli.printers import Printer
from sshmap.errors import UsageError
from sshmap.recipe import graphs
from sshmap.recipe.tables import Rows, Table

#: inches; and points in an inch of a picture
_WIDTH, _HEIGHT, _RESOLUTION = 8.0, 4.5, 150


def show(printer: Printer, tables: list[Table], found: Mapping[str, Rows], *, json: bool) -> None:
    """Show tables, and for a person their pictures.

    Args:
        printer: shows them.
        tables: the tables.
        found: their rows, by their names.
        json: whether a program reads it.
    """
    if json:
        printer.table(joined(tables, found))
        return
    for table in tables:
        shown = [{name: _cell(value) for name, value in row.items()} for row in found[table.name]]
        if len(tables) > 1:
            sys.stdout.write(f"{'' if table is tables[0] else chr(10)}{table.name}:\n")
        printer.table(shown)
        if table.drawn:
            labels, lengths = _drawn(table, found[table.name])
            sys.stdout.write(f"\n{graphs.bars(labels, lengths, encoding=sys.stdout.encoding)}\n")


def _cell(value: object) -> object:
    """Return a value as people see it: numbers with all the digits that they have."""
    if value is None:
        return "-"
    return f"{value:.12g}" if isinstance(value, float) else value


def joined(tables: list[Table], found: Mapping[str, Rows]) -> Rows:
    """Return the rows of all tables; if there are several, each begins with the name of its table."""
    if len(tables) == 1:
        return found[tables[0].name]
    return [{"table": table.name, **row} for table in tables for row in found[table.name]]


def check_plot(tables: list[Table]) -> None:
    """Look whether there will be something to draw, and something to draw it with.

    Raises:
        UsageError: there will not.
    """
    if not any(table.drawn for table in tables):
        raise UsageError("--plot: this recipe draws nothing", hint="a table with .bars(…) is drawn")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib", hint="pip install 'sshmap-cluster[plot]'")


def draw(path: Path, tables: list[Table], found: Mapping[str, Rows]) -> None:
    """Draw the bars of tables into a file, below each other; its name says what kind of picture it is.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # takes 0.3 s, and few have it

    drawn = [table for table in tables if table.drawn]
    figure = Figure(figsize=(_WIDTH, _HEIGHT * len(drawn)), layout="constrained")
    for table, axes in zip(drawn, figure.subplots(len(drawn), squeeze=False)[:, 0], strict=True):
        assert table.drawn, "chosen so"
        labels, lengths = _drawn(table, found[table.name])
        axes.bar(range(len(labels)), lengths, tick_label=labels)
        axes.set(xlabel=table.drawn[0], ylabel=table.drawn[1], title=table.name)
        axes.tick_params(axis="x", rotation=0 if sum(map(len, labels)) < 60 else 90)
    try:
        figure.savefig(path, dpi=_RESOLUTION)
    except (OSError, ValueError) as exc:
        raise UsageError(f"cannot draw into {path}: {exc}", hint="name a file that ends in .png or .svg") from exc


def _drawn(table: Table, rows: Rows) -> tuple[list[str], list[float]]:
    """Return the labels and lengths of a table's bars."""
    assert table.drawn, "the caller looked"
    labels, lengths = table.drawn
    return ["-" if row[labels] is None else str(row[labels]) for row in rows], [_number(row[lengths]) for row in rows]


def _number(value: object) -> float:
    """Return the length of a bar; what is no number has none."""
    return float(value) if isinstance(value, int | float) else 0.0
