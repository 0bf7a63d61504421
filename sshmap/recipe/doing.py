"""Doing what was typed: planning, running and showing a recipe, for one date or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sshmap.cli.app import settings
from sshmap.client.cluster import Cluster
from sshmap.errors import UsageError
from sshmap.recipe import databases, inputs, showing
from sshmap.recipe.asked import Asked, Order
from sshmap.recipe.dates import Date
from sshmap.recipe.files import Files, NoFiles
from sshmap.recipe.finishing import Finishing
from sshmap.recipe.flow import Flow, Place, Step
from sshmap.recipe.plan import Change, StepPlan, plan
from sshmap.recipe.running import Running
from sshmap.recipe.tables import Rows, Table


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe as its function was called."""

    flow: Flow
    #: what the function returned
    tables: tuple[Table, ...]
    place: Place
    #: the steps that are wanted
    steps: list[Step]
    date: Date | None

    @property
    def shown(self) -> list[Table]:
        """The tables whose rows the steps make that are wanted."""
        names = {step.name for step in self.steps}
        return [table for table in self.tables if table.name in names]

    @property
    def sources(self) -> list[Files]:
        """The files that the steps that are wanted read from their own environment."""
        names = {step.source for step in self.steps if self.place.is_own(step)}
        names |= {name for step in self.steps for name in step.needs}
        return [files for files in self.flow.files if files.name in names or not self.flow.steps]


class Doing:
    """One recipe on one cluster.

    Args:
        cluster: the cluster.
        asked: what was asked for.

    Raises:
        UsageError: tables cannot be loaded into the database that was asked for.
    """

    def __init__(self, cluster: Cluster, asked: Asked) -> None:
        self._cluster, self._asked = cluster, asked
        self._printer = settings.printer(json=asked.json)
        # now, so that what cannot be loaded into is refused before anything runs
        self._database = databases.named(asked.database or f"{asked.env}.sqlite")

    def do(self, calls: Sequence[Call]) -> None:
        """Do what was asked for, and show what came of it.

        Raises:
            SshmapError: what went wrong.
        """
        shown = calls[0].shown
        if self._asked.plot:
            showing.check_plot(shown)
        if self._asked.backfill:
            calls = self._gaps(calls)
        if self._asked.dry_run or self._asked.explain:
            self._show_plans(calls)
            return
        found = {table.name: Rows() for table in shown} | self.run(calls)
        if shown:
            showing.show(self._printer, shown, found, json=self._asked.json)
        if self._asked.plot:
            showing.draw(Path(self._asked.plot), shown, found)

    def run(self, calls: Sequence[Call]) -> dict[str, Rows]:
        """Run the recipe, and return the rows of its tables, by their names; with their date in front if there are several.

        Raises:
            SshmapError: what went wrong.
        """
        found: dict[str, Rows] = {}
        for call in calls:
            self._say_date(call, calls)
            before: dict[str, object] = {"date": str(call.date)} if len(calls) > 1 else {}
            for name, rows in self._run(call).items():
                found.setdefault(name, []).extend(before | row for row in rows)
        return found

    def _run(self, call: Call) -> dict[str, Rows]:
        """Run the recipe for one date, and return the rows of its tables.

        Raises:
            LockHeld: somebody else runs it on the same data.
            SshmapError: what went wrong.
        """
        running = Running(self._cluster, call.place, call.flow, self._printer, settings.manner)
        with self._cluster.holding(call.place.home, f"recipe {call.flow.recipe}") as held:
            running.run(call.steps, self._sources(call), again=self._asked.refetch, check=held.check)
            found = {table.name: running.rows(table) for table in call.shown}
            for table in call.shown:
                held.check()
                self._finishing(call).finish(table, found[table.name])
        return found

    def _finishing(self, call: Call) -> Finishing:
        return Finishing(self._cluster, call.place, self._printer, database=self._database, migrate=self._asked.migrate)

    def _sources(self, call: Call) -> list[Files]:
        """Return the files that are to be looked at.

        Raises:
            UsageError: there are none, and nothing says which data is meant then.
        """
        sources = [] if self._asked.first else call.sources
        away = [files for files in call.flow.files if files not in sources]
        if not self._asked.dataset and away and not any(files.is_there for files in away):
            raise UsageError(
                "--dataset is missing",
                hint=f"it says which data is meant where no files are given; or give --{away[0].name}",
            )
        return sources

    def _say_date(self, call: Call, calls: Sequence[Call]) -> None:
        if len(calls) > 1:
            self._printer.note(f"{call.date}:")

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
        return (
            any(one.pending or one.gone for one in differences.values())
            or _may_change(plans)
            or any(self._finishing(call).is_pending(table, self._rows(call, table)) for table in call.shown)
        )

    def _rows(self, call: Call, table: Table) -> Rows:
        """Read the rows that a table has now."""
        return Running(self._cluster, call.place, call.flow, self._printer, settings.manner).rows(table)

    def _plans(self, call: Call) -> tuple[list[StepPlan], dict[str, inputs.Difference]]:
        """Say what would be done; return that, and what would be sent, by the name of files."""
        differences: dict[str, inputs.Difference] = {}
        for source in self._sources(call):
            with inputs.opened(self._cluster, call.place, source, again=self._asked.refetch) as opened:
                differences[source.name] = opened.compare()
        changes = {name: Change(made=one.pending, gone=frozenset(one.gone)) for name, one in differences.items()}
        return plan(self._cluster, call.place, call.flow, call.steps, changes), differences

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
            show = self._reasons if self._asked.explain else self._counts
            rows += [before | row for one in (*plans, *self._notices(call, plans)) for row in show(one)]
        self._printer.table(rows)

    def _notices(self, call: Call, plans: list[StepPlan]) -> list[StepPlan]:
        """Say whom would be told something; of rows that may change, that is everybody."""
        found = []
        may_change = _may_change(plans)
        for table in call.shown:
            untold = (
                [] if may_change or not table.notices else self._finishing(call).untold(table, self._rows(call, table))
            )
            for name, _ in table.notices:
                run = (
                    {name: "the rows may be others" if may_change else "it was not done yet with these rows"}
                    if may_change or name in untold
                    else {}
                )
                found.append(
                    StepPlan(name=name, verb="notify", run=run, keep=int(not run), change=Change(), grows=False)
                )
        return found

    @staticmethod
    def _reasons(one: StepPlan) -> Rows:
        return [{"step": one.name, "output": name, "why": why} for name, why in sorted(one.run.items())]

    def _counts(self, one: StepPlan) -> Rows:
        row: dict[str, object] = {"step": one.name, "verb": one.verb, "keep": one.keep}
        if self._asked.json:
            return [{**row, "run": len(one.run), "more": one.grows}]
        return [{**row, "run": f"{len(one.run)}{'+' if one.grows else ''}"}]


def _may_change(plans: list[StepPlan]) -> bool:
    """Say whether something would be made, made anew or deleted."""
    return any(plan.run or plan.grows or plan.change.gone for plan in plans)
