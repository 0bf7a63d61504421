"""What random faults did: a table of them, printed when all is over."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator

from sshmap.errors import SshmapError

#: throws the dice; a night that failed can be had again
SEED = int(os.environ.get("FAULT_SEED") or random.randrange(1_000_000))
#: violations after which a fault is injected no more
MOST = 5
_HEADINGS = ("fault", "promises", "injected", "outcome", "violations")


class Row:
    """One fault, as often as it was injected.

    Args:
        fault: what is done.
        promises: numbers of the promises that have to hold nevertheless.
    """

    def __init__(self, fault: str, promises: str) -> None:
        self.fault, self.promises = fault, promises
        self.injected = 0
        self.outcomes: Counter[str] = Counter()
        self.violations: list[str] = []

    def take(self, *outcomes: str) -> None:
        """Count a fault that was injected, and what became of it."""
        self.injected += 1
        self.outcomes.update(outcomes)

    @contextlib.contextmanager
    def watched(self, where: str) -> Iterator[None]:
        """Count what does not hold as a violation, and go on.

        Raises:
            AssertionError: it is one too many.
        """
        try:
            yield
        except (AssertionError, SshmapError, subprocess.TimeoutExpired) as exc:
            self.violations.append(f"{where}: {type(exc).__name__}: {exc}"[:4000])
            if len(self.violations) >= MOST:
                self.check()

    def check(self) -> None:
        """Fail with all that was seen.

        Raises:
            AssertionError: something did not hold.
        """
        assert not self.violations, "\n\n".join(self.violations)

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        outcome = ", ".join(f"{count} {what}" for what, count in self.outcomes.most_common())
        return self.fault, self.promises, str(self.injected), outcome, str(len(self.violations))


class Table:
    """Rows in the order in which they were added."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, fault: str, promises: str) -> Row:
        """Begin a row."""
        self.rows.append(Row(fault, promises))
        return self.rows[-1]

    def lines(self) -> list[str]:
        """Return the table, a line each; nothing if it has no rows."""
        if not self.rows:
            return []
        cells = [_HEADINGS, *(row.cells for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in cells]


TABLE = Table()
