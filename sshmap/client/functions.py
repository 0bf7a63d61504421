"""A Python function as files that hosts can run: the function, and all that it reaches, without comments.

What it reaches is told by its compiled code: the names that it and what it reaches look up in their modules, followed from one
definition to the next. Functions and classes of its module, and of the user's modules beside it, come along as they are written,
constants by their values or by the statement that makes them; what is installed is imported on the host. Where that cannot be
told, the whole file goes, if it is one that may be run there.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterable, MutableMapping, MutableSequence, MutableSet
from pathlib import Path

import msgspec

from sshmap.client.reaching import (
    Definition,
    Statements,
    Untold,
    file_of,
    home_of,
    imported,
    is_own,
    looked_up,
    names_in,
    needed_first,
    tree_of,
    written,
)  # fmt: skip
from sshmap.errors import UsageError

#: CPython's parser is not for several threads at once: it may raise a SystemError
_reading = threading.Lock()
_FUTURE = "from __future__ import annotations"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A function as files."""

    #: name of the file that defines it
    file: str
    #: name of the function in it
    name: str
    #: by name, all files
    contents: dict[str, bytes]


def bundle(function: Callable[..., object], shipped: Iterable[Path] = ()) -> Bundle:
    """Make files of a function.

    Args:
        function: a function with a name, of a module or a notebook.
        shipped: files that will lie beside it; modules among them are imported there as they are.

    Raises:
        UsageError: it is no such function, or reaches what cannot be sent.
    """
    if not isinstance(function, types.FunctionType) or not function.__name__.isidentifier():
        raise UsageError(
            f"{function!r} is no function with a name", hint="write it with def; wrap a method or lambda in one"
        )
    name = function.__name__
    if (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise UsageError(f"{name} yields or awaits, and nobody would run it", hint="write to the output instead")
    with _reading:
        return _bundled(function, {path.stem for path in shipped})


def _bundled(function: types.FunctionType, stems: set[str]) -> Bundle:
    name, reached = function.__name__, _Reached(function.__module__, stems)
    try:
        reached.part(function.__module__).define(name, function)
    except Untold as exc:
        reached = _Reached(function.__module__, stems)
        reached.take_whole(function.__module__, f"it cannot be told what {name} reaches: {exc.reason}", needed=name)
    return Bundle(file=reached.file(function.__module__), name=name, contents=reached.contents())


class _Reached:
    """All that a function reaches, by module.

    Args:
        main: name of the function's module.
        shipped: names of modules that lie beside it on the host.
    """

    def __init__(self, main: str, shipped: set[str]) -> None:
        self._main, self._shipped = main, shipped
        self._parts: dict[str, _Part] = {}
        #: by module, the source of those that go whole
        self._wholes: dict[str, str] = {}

    def file(self, module: str) -> str:
        """Return the name of the file that a module is on the hosts."""
        path = file_of(module) if module == self._main else Path(f"{module}.py")
        return f"{(path or Path('notebook')).stem}.py"

    def contents(self) -> dict[str, bytes]:
        """Return all files."""
        sources = {module: part.source() for module, part in self._parts.items()} | self._wholes
        return {self.file(module): source.encode() for module, source in sources.items()}

    def part(self, module: str) -> _Part:
        """Return what is reached of a module."""
        if module not in self._parts:
            self._parts[module] = _Part(module, self)
        return self._parts[module]

    def goes_along(self, module: str) -> bool:
        """Say whether a module is one of the user's own, which hosts do not have.

        Raises:
            UsageError: it is, and cannot be sent.
        """
        if module == self._main:
            return True
        top = module.partition(".")[0]
        file = file_of(top)
        if not file or top in self._shipped or not is_own(file):
            return False
        if top != module or file.name != f"{module}.py":
            raise UsageError(
                f"{self._main} uses {module} of {file.parent}, which hosts do not have",
                hint="install it there, or move what is used into a module beside the function",
            )
        return True

    def take_whole(self, module: str, why: str, *, needed: str = "") -> None:
        """Have a module go as a whole, with those of the user's that it imports.

        Args:
            module: the module.
            why: what to say if it cannot.
            needed: a function that has to be at its top level.

        Raises:
            UsageError: it has no file, is one that starts jobs itself, or does not have the function at its top.
        """
        if module in self._wholes:
            return
        tree = tree_of(module)
        modules = {row[0] for node in tree.body for row in imported(node)} if tree else set[str]()
        if tree is None or any(map(_runs_jobs, modules)) or (needed and not _has_function(tree, needed)):
            raise UsageError(
                why,
                hint="put it into a file of its own, at its top, that imports nothing of sshmap but sshmap.functions",
            )
        self._wholes[module] = ast.unparse(tree) + "\n"
        for name in filter(self.goes_along, sorted(modules)):
            self.take_whole(name, f"{module} uses {name}, which cannot be sent as a whole")


class _Part:
    """What is reached of one module, as statements.

    Args:
        module: its name.
        reached: all that is reached.
    """

    def __init__(self, module: str, reached: _Reached) -> None:
        self._module, self._reached = module, reached
        self._globals = vars(sys.modules[module]) if module in sys.modules else {}
        self._imports: dict[str, list[str]] = {}
        #: by name, what sets it, each after what it needs; and what it is here
        self._lines: dict[str, str] = {}
        self._values: dict[str, object] = {}
        self._statements = Statements(tree_of(module))

    def source(self) -> str:
        """Return the file."""
        imports = sorted({line for lines in self._imports.values() for line in lines})
        return "\n".join([_FUTURE, *imports, *filter(None, self._lines.values())]) + "\n"

    def _reach(self, names: Iterable[str]) -> None:
        for name in sorted(set(names)):
            if name.isidentifier() and name in self._globals:
                self.take(name, self._globals[name])

    def _is_taken(self, name: str, value: object) -> bool:
        """Say whether a name stands for a value already; from now on it does.

        Raises:
            Untold: it stands for something else.
        """
        if name in self._values:
            there = self._values[name]
            if there is not value and (written(there) is None or written(there) != written(value)):
                raise Untold(f"two things are called {name}")
            return True
        self._values[name] = value
        return False

    def take(self, name: str, value: object) -> None:
        """Take along what a name stands for, and all that it reaches.

        Raises:
            Untold: it cannot be told what that is.
            UsageError: it cannot be sent.
        """
        if self._is_taken(name, value):
            return
        inner = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, types.ModuleType):
            self._import_module(name, value.__name__)
        elif hasattr(value, "registry"):
            raise Untold(f"{name} is put together from several functions")
        elif isinstance(inner, types.FunctionType | type) and self._reached.goes_along(inner.__module__):
            self._take_definition(name, inner)
        elif rows := self._statements.imports.get(name):
            self._import_from(name, value, *rows[-1])
        elif (home := home_of(value)) is not None:
            self._imports[name] = [f"from {home[0]} import {home[1]} as {name}"]
        else:
            self._set(name, value)

    def _import_module(self, name: str, module: str) -> None:
        if self._reached.goes_along(module):
            self._reached.take_whole(module, f"{self._module} uses {module}, which cannot be sent as a whole")
        # of a package also the modules in it that are imported here
        lines = [line for _, there, line in self._statements.imports.get(name, []) if not there]
        self._imports[name] = lines or [f"import {module} as {name}"]

    def _import_from(self, name: str, value: object, module: str, there: str, line: str) -> None:
        if self._reached.goes_along(module):
            self._reached.part(module).take(there, value)
        self._imports[name] = [line]

    def _take_definition(self, name: str, value: types.FunctionType | type) -> None:
        there = value.__name__
        if value.__module__ != self._module:
            self._reached.part(value.__module__).define(there, value)
            file = self._reached.file(value.__module__).removesuffix(".py")
            self._imports[name] = [f"from {file} import {there} as {name}"]
        elif there == "<lambda>":
            self._set(name, value)
        elif there == name:
            self._define(name, value)
        else:
            self.define(there, value)
            self._lines[name] = f"{name} = {there}"

    def define(self, name: str, value: types.FunctionType | type) -> None:
        """Take a function or class along, and all that it reaches; as `take`."""
        inner = inspect.unwrap(value) if isinstance(value, types.FunctionType) else value
        if not self._is_taken(name, inner):
            self._define(name, inner)

    def _define(self, name: str, value: types.FunctionType | type) -> None:
        node = _node_of(name, value)
        if node is None:
            self._set(name, value)
            return
        if isinstance(value, types.FunctionType):
            self._globals = self._globals or value.__globals__
            self._close(value)
            _fix_defaults(node, value, self._globals)
        # what has to be there when it is defined: decorators, bases, defaults
        self._reach(needed_first(node))
        self._lines[name] = ""
        self._reach_into(value)
        # last, so that it comes after all that it needs
        del self._lines[name]
        self._lines[name] = ast.unparse(node)

    def _reach_into(self, value: types.FunctionType | type) -> None:
        names, modules = looked_up(value)
        self._reach(names)
        for module in sorted(modules):
            if self._reached.goes_along(module):
                self._reached.take_whole(module, f"{self._module} uses {module}, which cannot be sent as a whole")

    def _close(self, function: types.FunctionType) -> None:
        """Take along what a function has from around it, under the same names.

        Raises:
            Untold: the module has something else by such a name.
        """
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            value = cell.cell_contents
            if self._globals.get(name, value) is not value:
                raise Untold(f"{name} around it and {name} in its module are not the same")
            if value is not function:
                self.take(name, value)

    def _set(self, name: str, value: object) -> None:
        """Have the host set a constant."""
        if (text := written(value)) is not None:
            self._lines[name] = f"{name} = {text}"
            return
        statement = self._statements.setting(name)
        if statement is None:
            raise Untold(f"{name} is set in no statement of its own")
        if isinstance(value, MutableMapping | MutableSequence | MutableSet):
            raise Untold(f"{name} may have been changed since it was set")
        self._reach(names_in(statement))
        if isinstance(value, types.FunctionType):
            self._reach_into(value)
        self._lines[name] = ast.unparse(statement)


def _runs_jobs(module: str) -> bool:
    """Say whether a file that imports a module may start jobs itself."""
    return module.partition(".")[0] == "sshmap" and module != "sshmap.functions"


def _has_function(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def _node_of(name: str, value: types.FunctionType | type) -> Definition | None:
    """Return the source of a function or class; None if it was not defined by a statement."""
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    return node if isinstance(node, Definition) and node.name == name else None


def _fix_defaults(node: Definition, function: types.FunctionType, present: dict[str, object]) -> None:
    """Write the values of defaults that can be written into a definition: their names may mean something else by now.

    Raises:
        Untold: one cannot, and its name means something else.
    """
    assert not isinstance(node, ast.ClassDef), "it is a function"
    args = node.args
    for index, value in enumerate(function.__defaults__ or ()):
        args.defaults[index] = _fixed(args.defaults[index], value, present)
    for index, (arg, default) in enumerate(zip(args.kwonlyargs, args.kw_defaults, strict=True)):
        if default is not None:
            args.kw_defaults[index] = _fixed(default, (function.__kwdefaults__ or {})[arg.arg], present)


def _fixed(default: ast.expr, value: object, present: dict[str, object]) -> ast.expr:
    if (text := written(value)) is not None:
        return ast.parse(text, mode="eval").body
    if isinstance(default, ast.Name) and present.get(default.id, default) is not value:
        raise Untold(f"the default {default.id} is not what its module calls so")
    return default
