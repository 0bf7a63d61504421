"""The command line of a recipe: its parameters, and what every recipe can be asked for. Errors end it as they end `sshmap`."""

from __future__ import annotations

import enum
import re
import sys
import typing
from collections.abc import Callable
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sshmap.cli import main, start
from sshmap.cli.app import settings
from sshmap.client.cluster import Cluster
from sshmap.errors import UsageError
from sshmap.recipe import files, graphs, inputs
from sshmap.recipe.flow import Data, Files, Flow, Pattern, Place, Step, Table
from sshmap.recipe.plan import Change, plan
from sshmap.recipe.running import Running

_ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Graph(enum.Enum):
    """How a recipe is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"


class _Asked(typing.NamedTuple):
    """What every recipe can be asked for, as typed."""

    inventory: Path | None
    local: int | None
    quiet: bool
    env: str
    dataset: str
    dry_run: bool
    explain: bool
    first: str
    last: str
    graph: Graph | None
    json: bool


#: by name: type, default and option
_OPTIONS: dict[str, tuple[Any, Any, Any]] = {
    "inventory": (Path | None, None, typer.Option("-i", "--inventory", envvar="SSHMAP_INVENTORY", help="Inventory file.")),
    "local": (int | None, None, typer.Option("--local", envvar="SSHMAP_LOCAL", help="Use the built-in local cluster with so many hosts.")),
    "quiet": (bool, False, typer.Option("-q", "--quiet", envvar="SSHMAP_QUIET", help="No progress, no notes.")),
    "env": (str, "dev", typer.Option("--env", envvar="SSHMAP_ENV", help="Environment: the bucket that all keys lie in.")),
    "dataset": (str, "", typer.Option("--dataset", help="Name of the data, instead of one made of where its files lie.")),
    "dry_run": (bool, False, typer.Option("-n", "--dry-run", help="Say how much each step would do; change nothing.")),
    "explain": (bool, False, typer.Option("--explain", help="Say why each task would be run; change nothing.")),
    "first": (str, "", typer.Option("--from", metavar="STEP", help="Run this step and what is made from it, nothing before.")),
    "last": (str, "", typer.Option("--until", metavar="STEP", help="Run this step and what it is made from, nothing after.")),
    "graph": (Graph | None, None, typer.Option("--graph", help="Draw files and steps; change nothing.")),
    "json": (bool, False, typer.Option("--json", help="Print JSON.")),
}  # fmt: skip


class Recipe:
    """A function that says which step is made from what, with a command line.

    Args:
        function: takes what its signature says, files as `Files`; returns what is shown, or nothing.
    """

    def __init__(self, function: Callable[..., Table | Data | None]) -> None:
        self.name = function.__name__
        self.__doc__ = cleandoc(function.__doc__ or "")
        self._function = function
        hints = typing.get_type_hints(function, include_extras=True)
        self._parameters = {
            name: parameter.replace(annotation=hints.get(name, str), kind=Parameter.KEYWORD_ONLY)
            for name, parameter in signature(function).parameters.items()
        }
        if taken := self._parameters.keys() & _OPTIONS.keys():
            raise UsageError(
                f"recipe {self.name} has a parameter {min(taken)!r}, as every recipe", hint="call it otherwise"
            )

    def main(self) -> NoReturn:
        """Run the command line and end the process with its exit code."""
        start.run(lambda: main.run(sys.argv[1:], self._app(), Path(sys.argv[0]).name))

    def run(
        self, cluster: Cluster, *, env: str = "dev", dataset: str = "", **parameters: object
    ) -> list[dict[str, object]]:
        """Run it on a cluster, and return the rows of its table.

        Args:
            cluster: the cluster.
            env: the environment.
            dataset: name of the data, instead of one made of where its files lie.
            parameters: the recipe's own; files as a directory or glob.

        Raises:
            SshmapError: what went wrong.
        """
        flow, shown = self._called(parameters)
        running = Running(cluster, self._place(flow, env, dataset), settings.printer(), settings.manner)
        running.run(flow, flow.steps)
        return running.rows(shown) if isinstance(shown, Table) else []

    def _called(self, given: dict[str, Any]) -> tuple[Flow, Table | Data | None]:
        """Call the function; return what it has made and what it returns."""
        flow = Flow(self.name)
        values = {}
        for name, parameter in self._parameters.items():
            pattern = _pattern(parameter)
            value = given.get(name, None if pattern else parameter.default)
            if pattern:
                origin = None if value is None else str(value)
                value = Files(name, flow, pattern.pattern, origin, files.dataset_of(origin) if origin else "")
            elif value is Parameter.empty:
                raise UsageError(f"recipe {self.name} needs a value for {name}")
            values[name] = value
        return flow, self._function(**values)

    def _place(self, flow: Flow, env: str, dataset: str) -> Place:
        if not _ENVIRONMENT.fullmatch(env):
            raise UsageError(
                f"--env {env!r}: no name for an environment", hint="it has a-z, 0-9, _ and - in it, such as dev-anna"
            )
        return Place(environment=env, recipe=self.name, dataset=dataset or flow.dataset)

    def _app(self) -> typer.Typer:
        """Return the typer app, whose one command has the recipe's parameters and those of every recipe."""

        def command(**given: Any) -> int:  # noqa: ANN401  # as typed
            return self._command(_Asked(**{name: given.pop(name) for name in _OPTIONS}), given)

        parameters = [*map(self._option, self._parameters.values())]
        parameters += [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
            for name, (kind, default, option) in _OPTIONS.items()
        ]
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(self.name, help=self.__doc__)(command)
        return app

    @staticmethod
    def _option(parameter: Parameter) -> Parameter:
        """Return a parameter of the recipe as typer has to see it."""
        pattern = _pattern(parameter)
        if pattern is None:
            return parameter
        words = f"{pattern.text} ({pattern.pattern}): a directory, or a quoted glob."
        option = typer.Option(f"--{parameter.name}", metavar="DIR", help=words)
        return parameter.replace(annotation=Annotated[str | None, option], default=None)

    def _command(self, asked: _Asked, given: dict[str, Any]) -> int:
        """Do what was typed."""
        settings.choose(asked.inventory, asked.local, quiet=asked.quiet)
        flow, shown = self._called(given)
        place, steps = self._place(flow, asked.env, asked.dataset), flow.needed(asked.first, asked.last)
        if asked.graph:
            sys.stdout.write((graphs.text if asked.graph is Graph.TEXT else graphs.mermaid)(flow) + "\n")
            return 0
        with settings.cluster() as cluster:
            if asked.dry_run or asked.explain:
                self._show_plan(cluster, flow, place, steps, asked)
                return 0
            running = Running(cluster, place, settings.printer(json=asked.json), settings.manner)
            running.run(flow, steps, sends=not asked.first)
            if isinstance(shown, Table) and shown.data.name in {step.name for step in steps}:
                self._show(shown, running.rows(shown), asked)
        return 0

    @staticmethod
    def _show(table: Table, rows: list[dict[str, object]], asked: _Asked) -> None:
        """Show a table, and for a person its picture."""
        empty = None if asked.json else "-"
        shown = [{name: empty if value is None else value for name, value in row.items()} for row in rows]
        settings.printer(json=asked.json).table(shown)
        if table.drawn and not asked.json:
            labels, lengths = table.drawn
            values = [row[lengths] for row in rows]
            numbers = [float(value) if isinstance(value, int | float) else 0.0 for value in values]
            sys.stdout.write(f"\n{graphs.bars([str(row[labels]) for row in shown], numbers)}\n")

    @staticmethod
    def _show_plan(cluster: Cluster, flow: Flow, place: Place, steps: list[Step], asked: _Asked) -> None:
        """Show what would be done: step by step, or task by task with the reason."""
        printer, changes = settings.printer(json=asked.json), dict[str, Change]()
        for source in flow.files if not asked.first else ():
            with files.found(source) as found:
                difference = inputs.compare(cluster, place.prefix(source.name), found)
            changes[source.name] = Change(made=difference.pending, gone=frozenset(difference.gone))
            printer.note(
                f"{source.name}: {len(difference.new)} new, {len(difference.changed)} changed, {len(difference.gone)} gone, "
                f"{len(difference.same)} there already"
            )
        plans = list(plan(cluster, place, steps, changes))
        if asked.explain:
            printer.table([
                {"step": one.name, "output": name, "why": why} for one in plans for name, why in sorted(one.run.items())
            ])  # fmt: skip
            return
        more = {True: "+", False: ""}
        printer.table([
            {"step": one.name, "verb": one.verb.value, "keep": one.keep, "run": len(one.run), "more": one.grows} if asked.json else
            {"step": one.name, "verb": one.verb.value, "keep": one.keep, "run": f"{len(one.run)}{more[one.grows]}"}
            for one in plans
        ])  # fmt: skip


def _pattern(parameter: Parameter) -> Pattern | None:
    """Return which files a parameter takes; None if it takes something else."""
    kind, *more = typing.get_args(parameter.annotation) or (parameter.annotation,)
    if kind is not Files:
        return None
    return next((one for one in more if isinstance(one, Pattern)), Pattern())


def recipe(function: Callable[..., Table | Data | None]) -> Recipe:
    """Make a recipe of a function that says which step is made from what."""
    return Recipe(function)
