"""The logical date of a run: what its data is about, not when it runs. A recipe with a parameter of such a type has one."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import ClassVar, Self

import msgspec

from sshmap.errors import UsageError

#: options of the command line that only a recipe with a date has
OPTIONS = ("date", "start", "stop", "backfill")


class Date(msgspec.Struct, frozen=True, order=True):
    """A span of time, by its first day; `Day` or `Month`."""

    first: dt.date

    #: how it is written, for people, and as `strftime` has it
    written: ClassVar[str] = ""
    form: ClassVar[str] = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a date.

        Raises:
            UsageError: it is none.
        """
        try:
            first = dt.datetime.strptime(text, cls.form).date()
        except ValueError:
            first = None
        if first is None or first.strftime(cls.form) != text:
            raise UsageError(f"{text!r} is no date", hint=f"write it as {cls.written}")
        return cls(first)

    def __str__(self) -> str:
        return self.first.strftime(self.form)

    def after(self) -> Self:
        """Return the next one."""
        raise NotImplementedError

    def until(self, stop: Self) -> Iterator[Self]:
        """Go through all from this one up to another one, which is not among them."""
        date = self
        while date < stop:
            yield date
            date = date.after()

    def fill(self, text: str) -> str:
        """Put the date into a text in the places of ``{date}``, ``{year}``, ``{month}`` and ``{day}``."""
        values = {"date": str(self), "year": f"{self.first:%Y}", "month": f"{self.first:%m}", "day": f"{self.first:%d}"}
        return re.sub(r"\{(date|year|month|day)\}", lambda found: values[found[1]], text)


class Day(Date, frozen=True, order=True):
    """One day."""

    written, form = "2018-03-01", "%Y-%m-%d"

    def after(self) -> Self:
        """Return the next day."""
        return type(self)(self.first + dt.timedelta(days=1))


class Month(Date, frozen=True, order=True):
    """One month."""

    written, form = "2018-03", "%Y-%m"

    def after(self) -> Self:
        """Return the next month."""
        return type(self)((self.first + dt.timedelta(days=31)).replace(day=1))


def chosen(kind: type[Date], date: str, start: str, stop: str) -> list[Date]:
    """Return the dates that were asked for, in order.

    Args:
        kind: day or month.
        date: one date, as typed; empty if there is none.
        start: the first of several.
        stop: the one behind the last of them.

    Raises:
        UsageError: none was asked for, or in two ways.
    """
    if bool(date) == bool(start or stop) or bool(start) != bool(stop):
        raise UsageError(
            "give either --date, or --start and --stop",
            hint=f"--date {kind.written}; of several, --stop is the first that is not wanted any more",
        )
    if date:
        return [kind.parse(date)]
    found: list[Date] = list(kind.parse(start).until(kind.parse(stop)))
    if not found:
        raise UsageError(f"there is no date from {start} until {stop}", hint="--stop comes after --start")
    return found
