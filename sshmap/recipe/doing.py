"""Doing what was typed: planning, running and showing a recipe, for one date or several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sshmap.cli.app import settings
from sshmap.client.cluster import Cluster
from sshmap.recipe import files, graphs, inputs
from sshmap.recipe.asked import Asked, Order
from sshmap.recipe.dates import Date
from sshmap.recipe.files import NoFiles
from sshmap.recipe.flow import Data, Flow, Place, Step, Table
from sshmap.recipe.loading import load
from sshmap.recipe.plan import Change, StepPlan, plan
from sshmap.recipe.running import Running

Rows = list[dict[str, object]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe as its function was called."""

    flow: Flow
    #: what the function returned
    shown: Table | Data | None
    place: Place
    #: the steps that are wanted
    steps: list[Step]
    date: Date | None


class Doing:
    """One recipe on one cluster.

    Args:
        cluster: the cluster.
        asked: what was asked for.
    """

    def __init__(self, cluster: Cluster, asked: Asked) -> None:
        self._cluster, self._asked = cluster, asked
        self._printer = settings.printer(json=asked.json)

    def do(self, calls: Sequence[Call]) -> None:
        """Do what was asked for, and show what came of it.

        Raises:
            SshmapError: what went wrong.
        """
        shown = calls[0].shown if any(map(self._shows, calls)) else None
        if self._asked.backfill:
            calls = self._gaps(calls)
        if self._asked.dry_run or self._asked.explain:
            self._show_plans(calls)
            return
        rows = self.run(calls)
        if isinstance(shown, Table):
            self._show(shown, rows)

    def run(self, calls: Sequence[Call]) -> Rows:
        """Run the recipe, and return the rows of its table; with their date in front if there are several.

        Raises:
            SshmapError: what went wrong.
        """
        rows: Rows = []
        for call in calls:
            self._say_date(call, calls)
            running = Running(self._cluster, call.place, self._printer, settings.manner)
            running.run(call.flow, call.steps, sends=not self._asked.first)
            if isinstance(call.shown, Table) and self._shows(call):
                before: dict[str, object] = {"date": str(call.date)} if len(calls) > 1 else {}
                found = running.rows(call.shown)
                self._load(call.shown, found)
                rows += [before | row for row in found]
        return rows

    def _load(self, table: Table, rows: Rows) -> None:
        """Load a table into the database, if it is to be."""
        if table.into:
            path = Path(self._asked.database or f"{self._asked.env}.sqlite")
            count = load(path, table.into, rows, migrate=self._asked.migrate)
            self._printer.note(f"{table.into.table}: {len(rows)} rows loaded into {path}, which has {count}")

    def _say_date(self, call: Call, calls: Sequence[Call]) -> None:
        if len(calls) > 1:
            self._printer.note(f"{call.date}:")

    def _shows(self, call: Call) -> bool:
        return isinstance(call.shown, Table) and call.shown.data.name in {step.name for step in call.steps}

    def _gaps(self, calls: Sequence[Call]) -> list[Call]:
        """Return those for whose date something is missing or has changed, in the order that is wanted, and say which they are."""
        found = list(filter(self._is_gap, calls))
        if self._asked.backfill is Order.NEWEST:
            found.reverse()
        self._printer.note(f"gaps: {', '.join(str(call.date) for call in found) or 'none'}")
        return found

    def _is_gap(self, call: Call) -> bool:
        """Say whether something of a date is missing or has changed; where there are no files for it, that is said."""
        try:
            plans, differences = self._plans(call)
        except NoFiles:
            self._printer.note(f"{call.date}: no files")
            return False
        return any(one.run for one in plans) or any(one.pending or one.gone for one in differences.values())

    def _plans(self, call: Call) -> tuple[list[StepPlan], dict[str, inputs.Difference]]:
        """Say what would be done; return that, and what would be sent, by the name of files."""
        differences: dict[str, inputs.Difference] = {}
        for source in call.flow.files if not self._asked.first else ():
            with files.found(source) as found:
                differences[source.name] = inputs.compare(self._cluster, call.place.prefix(source.name), found)
        changes = {name: Change(made=one.pending, gone=frozenset(one.gone)) for name, one in differences.items()}
        return list(plan(self._cluster, call.place, call.steps, changes)), differences

    def _show_plans(self, calls: Sequence[Call]) -> None:
        """Show what would be done: step by step, or task by task with the reason."""
        rows: Rows = []
        for call in calls:
            self._say_date(call, calls)
            plans, differences = self._plans(call)
            for name, one in differences.items():
                self._printer.note(
                    f"{name}: {len(one.new)} new, {len(one.changed)} changed, {len(one.gone)} gone, {len(one.same)} there already"
                )
            before: dict[str, object] = {"date": str(call.date)} if len(calls) > 1 else {}
            rows += [
                before | row
                for one in plans
                for row in (self._reasons(one) if self._asked.explain else [self._counts(one)])
            ]
        self._printer.table(rows)

    @staticmethod
    def _reasons(one: StepPlan) -> Rows:
        return [{"step": one.name, "output": name, "why": why} for name, why in sorted(one.run.items())]

    def _counts(self, one: StepPlan) -> dict[str, object]:
        row: dict[str, object] = {"step": one.name, "verb": one.verb.value, "keep": one.keep}
        if self._asked.json:
            return {**row, "run": len(one.run), "more": one.grows}
        return {**row, "run": f"{len(one.run)}{'+' if one.grows else ''}"}

    def _show(self, table: Table, rows: Rows) -> None:
        """Show a table, and for a person its picture."""
        empty = None if self._asked.json else "-"
        shown = [{name: empty if value is None else value for name, value in row.items()} for row in rows]
        self._printer.table(shown)
        if table.drawn and not self._asked.json:
            labels, lengths = table.drawn
            lengths_shown = [_number(row[lengths]) for row in rows]
            picture = graphs.bars([str(row[labels]) for row in shown], lengths_shown, encoding=sys.stdout.encoding)
            sys.stdout.write(f"\n{picture}\n")


def _number(value: object) -> float:
    """Return the length of a bar; what is no number has none."""
    return float(value) if isinstance(value, int | float) else 0.0
