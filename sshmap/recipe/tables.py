"""Tables of what keys hold: how their lines are read, drawn, loaded into a database, and told to somebody."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sshmap.errors import UsageError
from sshmap.recipe.loading import Into

Rows = list[dict[str, object]]


class Notice(NamedTuple):
    """Whom the rows are told to."""

    #: of the step
    name: str
    #: is called with the rows
    tell: Callable[[Rows], object]


class Table:
    """Lines of keys as a table, with a picture if `bars` is called.

    Args:
        name: directory of the keys: name of the step that makes them.
        columns: names of the columns.
        separator: what stands between two values, as `csv` has it with quotes; any blanks if None, and then no value is empty.
    """

    def __init__(self, name: str, columns: tuple[str, ...], separator: str | None) -> None:
        self.name, self.columns, self._separator = name, columns, separator
        #: columns of labels and of lengths of bars, if any are to be drawn
        self.drawn: tuple[str, str] | None = None
        #: where it is loaded, if it is
        self.into: Into | None = None
        self.notices: list[Notice] = []

    def load(self, table: str, keys: Iterable[str]) -> Table:
        """Load the rows into a table of the database that the command line names, in one transaction.

        Args:
            table: its name there.
            keys: columns that tell the rows apart: a row whose keys are there replaces that one.

        Raises:
            UsageError: a name cannot be one of a table or column, or a key is no column.
        """
        self.into = Into(table=table, keys=tuple(keys))
        self.into.check(self.columns)
        return self

    def notify(self, name: str, tell: Callable[[Rows], object]) -> Table:
        """Have a function called with the rows, on this machine, when all else is done; again only with other rows.

        If it raises an exception, the recipe fails; run again, nothing but the call is done again.

        Args:
            name: of this step; as of every step, there is one of a name.
            tell: the function.
        """
        self.notices.append(Notice(name, tell))
        return self

    def bars(self, labels: str, lengths: str) -> Table:
        """Draw a bar for each row below the table, where a person looks at it.

        Args:
            labels: column of what stands beside each bar.
            lengths: column of how long each is.

        Raises:
            UsageError: it has no such column.
        """
        for column in (labels, lengths):
            if column not in self.columns:
                raise UsageError(f"the table has no column {column!r}", hint=f"its columns: {', '.join(self.columns)}")
        self.drawn = labels, lengths
        return self

    def rows(self, content: str) -> Rows:
        """Read the lines of a key; numbers are numbers, but where they have leading zeros, and an empty value is None.

        Raises:
            UsageError: a line has not as many values as there are columns.
        """
        lines = content.removesuffix("\n").split("\n") if content else []
        if self._separator is None:
            return [self._row(line.split()) for line in lines]
        return [self._row(row) for row in csv.reader(lines, delimiter=self._separator)]

    def _row(self, values: list[str]) -> dict[str, object]:
        if len(values) != len(self.columns):
            raise UsageError(
                f"{self.name} has a line of {len(values)} values, the table {len(self.columns)} columns: {values}",
                hint="see what the step's command prints",
            )
        return dict(zip(self.columns, map(_value, values), strict=True))


def _value(text: str) -> object:
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text, re.ASCII):
        return int(text)
    # the second form is what Python writes of a number such as 0.00001
    if re.fullmatch(r"-?(0|[1-9]\d*)\.\d+(e[+-]?\d+)?|-?[1-9]e[+-]\d\d+", text, re.ASCII):
        number = float(text)
        return number if math.isfinite(number) else text
    return text or None
