"""What a recipe's function makes when it is called: files, the steps from them, and the tables that are shown. Nothing runs here.

Where keys lie follows from four names, each of which is written once: ``sm://ENVIRONMENT/RECIPE/DATASET/STEP/``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec

from sshmap.client.functions import Bundle, bundle
from sshmap.errors import UsageError
from sshmap.functions import FanoutFunction, MapFunction, MergeFunction
from sshmap.limits import Limits
from sshmap.model import Verb
from sshmap.recipe.loading import Into

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class How(TypedDict, total=False):
    """Options of a step."""

    #: Files to stand in every task directory; of other steps and files, the one key that they make, by the name of the step.
    shipped: Iterable[Path | str | Data]
    #: packages of others that its function imports, as pip names them, such as ``polars>=1.20``
    packages: Iterable[str]
    #: what its run is allowed
    limits: Limits


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the keys of a recipe lie."""

    #: its bucket: what belongs to one environment is nobody else's
    environment: str
    recipe: str
    dataset: str

    @property
    def home(self) -> str:
        """The directory of all its keys."""
        return f"sm://{self.environment}/{self.recipe}/{self.dataset}/"

    def prefix(self, name: str) -> str:
        """Return the directory of one step's keys, or of files."""
        return f"{self.home}{name}/"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a recipe."""

    name: str
    verb: Verb
    #: name of the step or files that it is made from
    source: str
    #: shell command, or Python function
    command: str | Bundle
    shipped: tuple[Path, ...] = ()
    #: names of steps whose one key is shipped
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    limits: Limits = Limits()


class Flow:
    """The files, steps and tables of one call of a recipe, in the order in which they were made.

    Args:
        recipe: name of the recipe.
    """

    def __init__(self, recipe: str) -> None:
        self.recipe = recipe
        self.files: list[Files] = []
        self.steps: list[Step] = []

    def add(self, name: str, of: str) -> None:
        """Take a name for files or a step.

        Args:
            name: the name.
            of: what it is the name of, in words.

        Raises:
            UsageError: it cannot be part of a key's name, or is taken.
        """
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name for {of}",
                hint="names have letters, digits and _ . - in them, and begin with neither . nor -",
            )
        if name in {*(files.name for files in self.files), *(step.name for step in self.steps)}:
            raise UsageError(f"two parts of recipe {self.recipe} are called {name!r}", hint="give one another name")

    @property
    def dataset(self) -> str:
        """What keeps data of different origin apart: the names of all files' origins."""
        return "+".join(files.dataset for files in self.files) or "data"

    def needed(self, first: str = "", last: str = "") -> list[Step]:
        """Return the steps from one to another one, in order; from the first or to the last if a name is empty.

        Raises:
            UsageError: there is no such step.
        """
        names = [step.name for step in self.steps]
        for name in filter(None, (first, last)):
            if name not in names:
                raise UsageError(f"recipe {self.recipe} has no step {name!r}", hint=f"its steps: {', '.join(names)}")
        chosen = self.steps
        if last:
            above = self._above(last)
            chosen = [step for step in chosen if step.name in above]
        if first:
            chosen = [step for step in chosen if first in self._above(step.name)]
        if self.steps and not chosen:
            raise UsageError(f"step {last} is not made from {first}", hint="see --graph text")
        return chosen

    def _above(self, name: str) -> set[str]:
        """Return the names of a step and of all that it is made from."""
        sources = {step.name: (step.source, *step.needs) for step in self.steps}
        found, left = set[str](), [name]
        while left:
            found.add(name := left.pop())
            left += sources.get(name, ())
        return found


class Data:
    """Keys of a recipe, side by side in a directory: files that were copied in, or what a step makes.

    Args:
        name: the directory's name, and that of the step.
        flow: what it is part of.
    """

    def __init__(self, name: str, flow: Flow) -> None:
        self.name, self._flow = name, flow

    def map(self, name: str | MapFunction, command: str | MapFunction = "", **how: Unpack[How]) -> Data:
        """Add a step that makes of each key one of the same name.

        Args:
            name: name of the step; or a Python function, which is called what the step is called then.
            command: shell command: the key on stdin, its content on stdout; or a Python function, see `sshmap.functions`.
            how: see `How`.

        Raises:
            UsageError: the name is taken, or is none.
        """
        return self._step(Verb.MAP, name, command, how)

    def fanout(self, name: str | FanoutFunction, command: str | FanoutFunction = "", **how: Unpack[How]) -> Data:
        """Add a step that makes of each key any number: the files that the command writes and whose names it prints; as `map`."""
        return self._step(Verb.FANOUT, name, command, how)

    def merge(self, name: str | MergeFunction, command: str | MergeFunction = "", **how: Unpack[How]) -> Data:
        """Add a step that makes one key of all equally named ones: their paths on stdin, its content on stdout; as `map`."""
        return self._step(Verb.MERGE, name, command, how)

    def _step(
        self, verb: Verb, name: str | Callable[..., object], command: str | Callable[..., object], how: How
    ) -> Data:
        if not isinstance(name, str):
            name, command = getattr(name, "__name__", repr(name)), name
        self._flow.add(name, "a step")
        shipped = tuple(how.get("shipped", ()))
        paths = tuple(Path(file) for file in shipped if not isinstance(file, Data))
        step = Step(
            name=name, verb=verb, source=self.name, limits=how.get("limits", Limits()), shipped=paths,
            # now, as the file may be written to while earlier steps run
            command=command if isinstance(command, str) else bundle(command, paths),
            needs=tuple(data.name for data in shipped if isinstance(data, Data)), packages=tuple(how.get("packages", ())),
        )  # fmt: skip
        self._flow.steps.append(step)
        return Data(name, self._flow)

    def table(self, *columns: str, separator: str | None = None) -> Table:
        """Return a table of the lines of all keys, in the order of their names.

        Args:
            columns: names of the columns.
            separator: what stands between two values, as `csv` has it with quotes; any blanks if None, and then no value is empty.
        """
        return Table(self, columns, separator)


class Pattern(msgspec.Struct, frozen=True):
    """Which files a recipe takes; stands in the annotation of a parameter, as in ``Annotated[Files, Pattern("*.csv")]``."""

    #: the files of a directory that count, as `fnmatch` has it
    pattern: str = "*"
    #: what they are, for ``--help``
    text: str = "files"


class Files(Data):
    """Files that a recipe starts from.

    Args:
        name: the parameter's name.
        flow: what they are part of.
        pattern: which files of a directory count.
        origin: what the user has named: a directory, or a glob; None if nothing.
        dataset: name of that.
    """

    def __init__(self, name: str, flow: Flow, pattern: str = "*", origin: str | None = None, dataset: str = "") -> None:
        super().__init__(name, flow)
        self.pattern, self.origin, self.dataset = pattern, origin, dataset
        #: writes files into an empty directory, where the user has named none
        self.make: Callable[[Path], object] | None = None
        flow.add(name, "files")
        flow.files.append(self)

    def or_made(self, dataset: str, make: Callable[[Path], object]) -> Files:
        """Return these files; if the user has named none, those that a function writes into an empty directory.

        Args:
            dataset: what the made files are called.
            make: the function.
        """
        if self.origin is None:
            self.make, self.dataset = make, dataset
        return self


class Table:
    """Lines of keys as a table, with a picture if `bars` is called.

    Args:
        data: the keys.
        columns: names of the columns.
        separator: see `Data.table`.
    """

    def __init__(self, data: Data, columns: tuple[str, ...], separator: str | None) -> None:
        self.data, self.columns, self._separator = data, columns, separator
        #: columns of labels and of lengths of bars, if any are to be drawn
        self.drawn: tuple[str, str] | None = None
        #: where it is loaded, if it is
        self.into: Into | None = None

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

    def rows(self, content: str) -> list[dict[str, object]]:
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
                f"{self.data.name} has a line of {len(values)} values, the table {len(self.columns)} columns: {values}",
                hint="see what the step's command prints",
            )
        return dict(zip(self.columns, map(_value, values), strict=True))


def _value(text: str) -> object:
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9]\d*)\.\d+(e[+-]?\d+)?", text, re.ASCII):
        return float(text)
    return text or None
