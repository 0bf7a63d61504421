"""What a recipe's function makes when it is called: files, the steps from them, and the tables that are shown. Nothing runs here.

Where keys lie follows from four names, each of which is written once: ``sm://ENVIRONMENT/RECIPE/DATASET/STEP/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import msgspec

from sshmap.client.functions import Bundle, bundle
from sshmap.errors import UsageError
from sshmap.functions import FanoutFunction, MapFunction, MergeFunction
from sshmap.limits import Limits
from sshmap.model import Verb
from sshmap.recipe.tables import Table

if TYPE_CHECKING:
    from sshmap.recipe.files import Files

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class How(TypedDict, total=False):
    """Options of a step."""

    #: Files to stand in every task directory; of other steps and files, the one key that they make, by the name of the step.
    shipped: Iterable[Path | str | Data]
    #: packages of others that its function imports, as pip names them, such as ``polars>=1.20``
    packages: Iterable[str]
    #: what its run is allowed
    limits: Limits
    #: another environment, whose keys of its source it reads; what it makes lies in its own
    reads: str
    #: delete its keys once all that is made from them is made, until something has to be made from them anew
    temporary: bool


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

    def source(self, step: Step) -> str:
        """Return the directory of the keys that a step is made from."""
        there = msgspec.structs.replace(self, environment=step.reads or self.environment)
        return there.prefix(step.source)

    def is_own(self, step: Step) -> bool:
        """Say whether a step is made from keys of the same environment."""
        return step.reads in {"", self.environment}


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
    reads: str = ""
    temporary: bool = False


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
        return "+".join(filter(None, (files.dataset for files in self.files))) or "data"

    def step(self, name: str) -> Step | None:
        """Return a step by its name; None if those are files."""
        return next((step for step in self.steps if step.name == name), None)

    def made_from(self, name: str) -> list[Step]:
        """Return the steps whose source a step is, or files are."""
        return [step for step in self.steps if step.source == name]

    def check_temporaries(self, step: Step) -> None:
        """Look whether a step that is to be added reads an environment, and needs no key of a temporary step.

        Raises:
            UsageError: it does not, or does.
        """
        if step.reads and not ENVIRONMENT.fullmatch(step.reads):
            raise UsageError(f"reads={step.reads!r}: no name for an environment", hint="such as prod")
        needs = [(name, f"needs the key of {name}") for name in step.needs]
        for name, what in [*needs, (step.source, f"reads {step.source} of {step.reads}")] if step.reads else needs:
            if (source := self.step(name)) and source.temporary:
                raise UsageError(f"step {step.name} {what}, which is temporary", hint="keep it: temporary=False")

    def is_last(self, step: Step, steps: list[Step]) -> bool:
        """Say whether none of some steps is made from a step."""
        return all(after not in steps for after in self.made_from(step.name))

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
            above = self.above(last)
            chosen = [step for step in chosen if step.name in above]
        if first:
            chosen = [step for step in chosen if first in self.above(step.name)]
        if self.steps and not chosen:
            raise UsageError(f"step {last} is not made from {first}", hint="see --graph text")
        return chosen

    def above(self, name: str) -> set[str]:
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
            reads=how.get("reads", ""), temporary=how.get("temporary", False),
            # now, as the file may be written to while earlier steps run
            command=command if isinstance(command, str) else bundle(command, paths),
            needs=tuple(data.name for data in shipped if isinstance(data, Data)), packages=_packages(how),
        )  # fmt: skip
        self._flow.check_temporaries(step)
        self._flow.steps.append(step)
        return Data(name, self._flow)

    def table(self, *columns: str, separator: str | None = None) -> Table:
        """Return a table of the lines of all keys, in the order of their names.

        Args:
            columns: names of the columns.
            separator: what stands between two values, as `csv` has it with quotes; any blanks if None, and then no value is empty.
        """
        if (step := self._flow.step(self.name)) and step.temporary:
            raise UsageError(f"a table of {self.name}, which is temporary", hint="keep it: temporary=False")
        return Table(self.name, columns, separator)


def _packages(how: How) -> tuple[str, ...]:
    """Return the packages that a step needs, as they stand in a receipt.

    Raises:
        UsageError: one is none.
    """
    if not how.get("packages"):
        return ()
    from sshmap.client.packages import checked  # imports what few recipes need

    return checked(how["packages"])
