"""Rows and the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

_HEAD = ("work", "took", "limit took", "ratio", "bound", "")
_WIDTHS = (44, 11, 11, 7, 7, 5)


@dataclass(frozen=True)
class Row:
    """One comparison."""

    #: what was done, in words
    work: str
    #: what it took
    took: float
    #: what the limit took in the same run, or a fixed limit
    limit: float
    #: `took` may be this many times `limit`
    bound: float = 1.0
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """`took` as a multiple of `limit`."""
        return self.took / self.limit

    @property
    def verdict(self) -> str:
        """Whether the bound holds: ok or over."""
        return "ok" if self.ratio <= self.bound else "over"


def head() -> str:
    """Return the table's first line."""
    return _line(_HEAD)


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    took, limit = (f"{value:.3f} {row.unit}" for value in (row.took, row.limit))
    return _line((row.work, took, limit, f"{row.ratio:.2f}x", f"{row.bound:g}x", row.verdict))


def _line(cells: Sequence[str]) -> str:
    padded = [
        f"{cells[0]:{_WIDTHS[0]}}",
        *(f"{cell:>{width}}" for cell, width in zip(cells[1:], _WIDTHS[1:], strict=True)),
    ]
    return " ".join(padded).rstrip()


def as_json(rows: Sequence[Row], circumstances: Mapping[str, object]) -> str:
    """Return all rows and what they were measured under."""
    table = [{**asdict(row), "ratio": round(row.ratio, 4), "verdict": row.verdict} for row in rows]
    return json.dumps({**circumstances, "rows": table}, indent=2)
