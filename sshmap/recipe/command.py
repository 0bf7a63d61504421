"""The command line of a recipe: its parameters, and what every recipe can be asked for. Errors end it as they end `sshmap`."""

from __future__ import annotations

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
from sshmap.errors import SshmapError, UsageError
from sshmap.recipe import dates, files, graphs
from sshmap.recipe.asked import OPTIONS, Asked, Graph
from sshmap.recipe.dates import Date
from sshmap.recipe.doing import Call, Doing
from sshmap.recipe.failures import described
from sshmap.recipe.files import Files, Pattern
from sshmap.recipe.flow import ENVIRONMENT, NAME, Data, Flow, Place
from sshmap.recipe.showing import joined
from sshmap.recipe.tables import Table

#: what a recipe's function returns
Shown = Table | tuple[Table, ...] | Data | None


class Recipe:
    """A function that says which step is made from what, with a command line.

    Args:
        function: takes what its signature says, files as `Files`; returns what is shown, or nothing.
    """

    def __init__(self, function: Callable[..., Shown]) -> None:
        self.name = function.__name__
        self.__doc__ = cleandoc(function.__doc__ or "")
        self._function = function
        hints = typing.get_type_hints(function, include_extras=True)
        self._parameters = {
            name: parameter.replace(annotation=hints.get(name, str), kind=Parameter.KEYWORD_ONLY)
            for name, parameter in signature(function).parameters.items()
        }
        if taken := self._parameters.keys() & OPTIONS.keys():
            raise UsageError(
                f"recipe {self.name} has a parameter {min(taken)!r}, as every recipe", hint="call it otherwise"
            )
        #: name and type of the parameter that is its logical date; no name if it has none
        dated: tuple[str, type[Date]] = next(
            ((name, parameter.annotation) for name, parameter in self._parameters.items() if _is_date(parameter)),
            ("", Date),
        )
        self._dated, self._kind = dated

    def main(self) -> NoReturn:
        """Run the command line and end the process with its exit code."""
        start.run(lambda: main.run(sys.argv[1:], self._app(), Path(sys.argv[0]).name))

    def run(
        self,
        cluster: Cluster,
        *,
        env: str = "dev",
        dataset: str = "",
        refetch: bool = False,
        database: str = "",
        migrate: bool = False,
        **parameters: object,
    ) -> list[dict[str, object]]:
        """Run it on a cluster, and return the rows of its table; of several, each row begins with the name of its table.

        Args:
            cluster: the cluster.
            env: the environment.
            dataset: name of the data, instead of one made of where its files lie.
            refetch: fetch raw inputs again, where the server says that they have changed.
            database: where its tables are loaded; ``ENVIRONMENT.sqlite`` if not given.
            migrate: add columns that the table in the database does not have.
            parameters: the recipe's own; files as a directory or glob, its date as text.

        Raises:
            SshmapError: what went wrong.
        """
        if unknown := parameters.keys() - self._parameters.keys():
            raise UsageError(
                f"recipe {self.name} has no parameter {min(unknown)!r}",
                hint=f"its parameters: {', '.join(self._parameters)}",
            )
        date = self._kind.parse(str(parameters.pop(self._dated, ""))) if self._dated else None
        asked = Asked(
            env=env, dataset=dataset, refetch=refetch, database=database, migrate=migrate, quiet=settings.quiet,
        )  # fmt: skip
        call = self._call(asked, parameters, date)
        found = Doing(cluster, asked).run([call])
        return joined(call.shown, found) if call.shown else []

    def _call(self, asked: Asked, given: dict[str, Any], date: Date | None = None) -> Call:
        """Call the function for a date, if it has one."""
        flow = Flow(self.name)
        values = {}
        for name, parameter in self._parameters.items():
            pattern = _pattern(parameter)
            value = given.get(name, None if pattern else parameter.default)
            if name == self._dated:
                value = date
            elif pattern:
                value = _files(name, flow, pattern.pattern, value, date)
            elif value is Parameter.empty:
                raise UsageError(f"recipe {self.name} needs a value for {name}")
            values[name] = date.fill(value) if date and isinstance(value, str) else value
        tables = self._tables(values)
        place = self._place(flow, asked, date)
        return Call(flow=flow, tables=tables, place=place, steps=flow.needed(asked.first, asked.last), date=date)

    def _tables(self, values: dict[str, Any]) -> tuple[Table, ...]:
        """Call the function, and return the tables that are shown.

        Raises:
            UsageError: it raises an exception of its own; the message says where.
        """
        try:
            shown = self._function(**values)
        except SshmapError:
            raise
        except Exception as exc:
            raise UsageError(f"recipe {self.name}: {described(exc)}") from exc
        parts = shown if isinstance(shown, tuple | list) else (shown,)
        for one in parts:
            if not isinstance(one, Table | Data | None):
                raise UsageError(
                    f"recipe {self.name} returns a {type(one).__name__}, which cannot be shown",
                    hint="it returns a table, a tuple of tables, or nothing",
                )
        tables = tuple(one for one in parts if isinstance(one, Table))
        self._check([table.name for table in tables], "tables of step")
        self._check([notice.name for table in tables for notice in table.notices], "notices called")
        return tables

    def _check(self, names: list[str], what: str) -> None:
        """Look whether names are different, as notes are made by them.

        Raises:
            UsageError: one is twice there, or cannot be part of a key's name.
        """
        for number, name in enumerate(names):
            if not NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} is no name for a notice", hint="names have letters, digits and _ . - in them"
                )
            if name in names[:number]:
                raise UsageError(f"recipe {self.name} has two {what} {name!r}")

    def _place(self, flow: Flow, asked: Asked, date: Date | None) -> Place:
        if not ENVIRONMENT.fullmatch(asked.env):
            raise UsageError(
                f"--env {asked.env!r}: no name for an environment",
                hint="it has a-z, 0-9, _ and - in it, such as dev-anna",
            )
        if asked.dataset and not NAME.fullmatch(asked.dataset):
            raise UsageError(f"--dataset {asked.dataset!r}: no name", hint="it has letters, digits and _ . - in it")
        dataset = asked.dataset or flow.dataset
        return Place(environment=asked.env, recipe=self.name, dataset=f"{dataset}/{date}" if date else dataset)

    def _app(self) -> typer.Typer:
        """Return the typer app, whose one command has the recipe's parameters and those of every recipe."""
        left_out = () if self._dated else dates.OPTIONS
        options = {name: row for name, row in OPTIONS.items() if name not in left_out}

        def command(**given: Any) -> int:  # noqa: ANN401  # as typed
            return self._command(Asked(**{name: given.pop(name) for name in options}), given)

        parameters = [self._option(one) for name, one in self._parameters.items() if name != self._dated]
        parameters += [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
            for name, (kind, default, option) in options.items()
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
        words = f"{pattern.text} ({' or '.join(pattern.pattern.split())}): a directory, a quoted glob, or addresses."
        option = typer.Option(f"--{parameter.name}", metavar="DIR", help=words)
        return parameter.replace(annotation=Annotated[str | None, option], default=None)

    def _command(self, asked: Asked, given: dict[str, Any]) -> int:
        """Do what was typed."""
        settings.choose(asked.inventory, asked.local, quiet=asked.quiet)
        settings.words = settings.named()
        wanted = dates.chosen(self._kind, asked.date, asked.start, asked.stop) if self._dated else [None]
        calls = [self._call(asked, given, date) for date in wanted]
        if asked.graph:
            draw = graphs.text if asked.graph is Graph.TEXT else graphs.mermaid
            sys.stdout.write(draw(calls[0].flow) + "\n")
            return 0
        with settings.cluster() as cluster:
            Doing(cluster, asked).do(calls)
        return 0


def _files(name: str, flow: Flow, pattern: str, value: object, date: Date | None) -> Files:
    """Return the files that a parameter stands for."""
    origin = None if value is None else str(value)
    wanted = date.fill(pattern) if date else pattern
    return Files(name, flow, wanted, origin, files.dataset_of(origin) if origin else "")


def _is_date(parameter: Parameter) -> bool:
    return isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Date)


def _pattern(parameter: Parameter) -> Pattern | None:
    """Return which files a parameter takes; None if it takes something else."""
    kind, *more = typing.get_args(parameter.annotation) or (parameter.annotation,)
    if kind is not Files:
        return None
    return next((one for one in more if isinstance(one, Pattern)), Pattern())


def recipe(function: Callable[..., Shown]) -> Recipe:
    """Make a recipe of a function that says which step is made from what."""
    return Recipe(function)
