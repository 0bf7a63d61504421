"""What a recipe's function makes when it is called: files, the steps from them, and the tables that are shown. Nothing runs here.

Where keys lie follows from four names, each of which is written once: ``sm://ENVIRONMENT/RECIPE/DATASET/STEP/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict, Unpack
from urllib.parse import unquote, urlsplit

import msgspec

from sshmap.client.functions import Bundle, bundle
from sshmap.errors import UsageError
from sshmap.functions import FanoutFunction, MapFunction, MergeFunction
from sshmap.limits import Limits
from sshmap.model import Verb
from sshmap.recipe.tables import Table

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAME_THEM = "give addresses by names: {'2018-01.json': 'https://…'}; names have letters, digits and _ . - in them"


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
        if how.get("reads") and not ENVIRONMENT.fullmatch(how["reads"]):
            raise UsageError(f"reads={how['reads']!r}: no name for an environment", hint="such as prod")
        shipped = tuple(how.get("shipped", ()))
        paths = tuple(Path(file) for file in shipped if not isinstance(file, Data))
        step = Step(
            name=name, verb=verb, source=self.name, limits=how.get("limits", Limits()), shipped=paths,
            reads=how.get("reads", ""), temporary=how.get("temporary", False),
            # now, as the file may be written to while earlier steps run
            command=command if isinstance(command, str) else bundle(command, paths),
            needs=tuple(data.name for data in shipped if isinstance(data, Data)), packages=tuple(how.get("packages", ())),
        )  # fmt: skip
        for need in filter(None, map(self._flow.step, step.needs)):
            if need.temporary:
                raise UsageError(
                    f"step {name} needs the key of {need.name}, which is temporary", hint="keep it: temporary=False"
                )
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
        origin: what the user has named: a directory, a glob, or addresses separated by blanks; None if nothing.
        dataset: name of that.
    """

    def __init__(self, name: str, flow: Flow, pattern: str = "*", origin: str | None = None, dataset: str = "") -> None:
        super().__init__(name, flow)
        self.pattern, self.origin, self.dataset = pattern, origin, dataset
        #: writes files into an empty directory, where the user has named none
        self.make: Callable[[Path], object] | None = None
        #: by the names of the keys that they become, addresses that they are fetched from
        self.urls: dict[str, str] = _by_name(origin.split()) if origin and is_address(origin) else {}
        flow.add(name, "files")
        flow.files.append(self)

    @property
    def is_there(self) -> bool:
        """Whether it is known what they are."""
        return bool(self.origin or self.make or self.urls)

    def or_made(self, dataset: str, make: Callable[[Path], object]) -> Files:
        """Return these files; if the user has named none, those that a function writes into an empty directory.

        Args:
            dataset: what the made files are called.
            make: the function.
        """
        if self.origin is None:
            self.make, self.dataset = make, dataset
        return self

    def or_fetched(self, urls: Iterable[str] | Mapping[str, str], dataset: str = "") -> Files:
        """Return these files; if the user has named none, raw inputs that are fetched from addresses, once.

        Args:
            urls: addresses, each called by the last part of its path; or addresses by the names that they get.
            dataset: what keeps them apart from those of other addresses.

        Raises:
            UsageError: an address is none, or has no name of its own.
        """
        if self.origin is None:
            self.urls = _named(urls) if isinstance(urls, Mapping) else _by_name(urls)
            self.dataset = dataset
        return self


def is_address(text: str) -> bool:
    """Say whether a text begins with an address."""
    return text.startswith(("http://", "https://"))


def _by_name(urls: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for url in urls:
        name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        if name in found:
            raise UsageError(f"two addresses are called {name!r}: {found[name]} and {url}", hint=_NAME_THEM)
        found[name] = url
    return _named(found)


def _named(urls: Mapping[str, str]) -> dict[str, str]:
    for name, url in urls.items():
        if not is_address(url):
            raise UsageError(f"{url!r} is no address", hint="it begins with http:// or https://")
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for what {url} has", hint=_NAME_THEM)
    return dict(urls)
