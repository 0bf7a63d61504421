"""A Python function as files that hosts can run: the function, and all that it reaches, without comments.

What it reaches is told by its compiled code: the names that it and what it reaches look up in their modules, followed from one
definition to the next. Functions and classes of its module, and of the user's modules beside it, come along as they are written,
constants by their values or by the statement that makes them; what is installed is imported on the host. Where that cannot be
told, the whole file goes.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sshmap.errors import UsageError

_FUTURE = "from __future__ import annotations"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A function as files."""

    #: name of the file that defines it
    file: str
    #: name of the function in it
    name: str
    #: by name, all files
    contents: dict[str, bytes]


class _Untold(Exception):
    """It cannot be told what a function reaches."""


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
    reached = _Reached(function.__module__, {path.stem for path in shipped})
    try:
        reached.part(function.__module__).define(function.__name__, function)
    except _Untold:
        reached = _Reached(function.__module__, {path.stem for path in shipped})
        reached.take_whole(function.__module__, function.__name__)
    return Bundle(file=reached.file(function.__module__), name=function.__name__, contents=reached.contents())


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
        path = getattr(sys.modules.get(module), "__file__", None) if module == self._main else f"{module}.py"
        return f"{Path(path or 'notebook').stem}.py"

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
        file = getattr(sys.modules.get(top), "__file__", None)
        if not file or top in self._shipped or not _is_own(Path(file)):
            return False
        if top != module or Path(file).name != f"{module}.py":
            raise UsageError(
                f"{self._main} uses {module} of {Path(file).parent}, which hosts do not have",
                hint="install it there, or move what is used into a module beside the function",
            )
        return True

    def take_whole(self, module: str, needed: str = "") -> None:
        """Have a module go as a whole, with those of the user's that it imports.

        Raises:
            UsageError: it has no file, or a function that is needed is not at its top level.
        """
        if module in self._wholes:
            return
        tree = _tree(module)
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} if tree else set()
        if tree is None or (needed and needed not in names):
            raise UsageError(
                f"it cannot be told what {needed or module} reaches, and there is no whole file to send",
                hint="define it at the top of a file, with all that it needs there or in arguments' defaults",
            )
        self._wholes[module] = ast.unparse(tree) + "\n"
        for name in _imported(tree):
            if name in sys.modules and self.goes_along(name):
                self.take_whole(name)


class _Part:
    """What is reached of one module, as statements.

    Args:
        module: its name.
        reached: all that is reached.
    """

    def __init__(self, module: str, reached: _Reached) -> None:
        self._module, self._reached = module, reached
        self._globals = vars(sys.modules[module]) if module in sys.modules else {}
        self._imports: dict[str, str] = {}
        self._constants: dict[str, str] = {}
        self._definitions: dict[str, str] = {}
        self._statements = _assignments(module)

    def source(self) -> str:
        """Return the file: imports, constants, definitions, each after what it needs."""
        imports = sorted(set(self._imports.values()))
        return "\n".join([_FUTURE, *imports, *self._constants.values(), *self._definitions.values()]) + "\n"

    def _reach(self, names: Iterable[str]) -> None:
        for name in sorted(set(names)):
            known = name in self._imports or name in self._constants or name in self._definitions
            if not known and name.isidentifier() and name in self._globals:
                self._take(name, self._globals[name])

    def _take(self, name: str, value: object) -> None:
        inner = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, types.ModuleType):
            if self._reached.goes_along(value.__name__):
                self._reached.take_whole(value.__name__)
            self._imports[name] = f"import {value.__name__} as {name}"
        elif isinstance(inner, types.FunctionType | type) and self._reached.goes_along(inner.__module__):
            self._reached.part(inner.__module__).define(inner.__name__, inner)
            if inner.__module__ != self._module:
                file = self._reached.file(inner.__module__).removesuffix(".py")
                self._imports[name] = f"from {file} import {inner.__name__} as {name}"
            elif inner.__name__ != name:
                self._definitions[name] = f"{name} = {inner.__name__}"
        elif (home := _home(value)) is not None:
            self._imports[name] = f"from {home[0]} import {home[1]} as {name}"
        else:
            self._set(name, value)

    def define(self, name: str, value: types.FunctionType | type) -> None:
        """Take a function or class along, and all that it reaches.

        Raises:
            _Untold: its source is not known, or it cannot be told what it reaches.
            UsageError: it reaches what cannot be sent.
        """
        if name in self._definitions:
            return
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            raise _Untold from None
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name != name:
            raise _Untold
        self._definitions[name] = ""
        if isinstance(value, types.FunctionType):
            self._globals = self._globals or value.__globals__
            self._close(value)
        # what has to be there when it is defined: decorators, bases, defaults
        self._reach(_needed_first(node))
        self._reach(_looked_up(value))
        # last, so that it comes after all that it needs
        del self._definitions[name]
        self._definitions[name] = ast.unparse(node)

    def _close(self, function: types.FunctionType) -> None:
        """Take along what a function has from around it, under the same names.

        Raises:
            _Untold: the module has something else by such a name.
        """
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if cell.cell_contents is function:
                continue
            if self._globals.get(name, cell.cell_contents) is not cell.cell_contents:
                raise _Untold
            self._take(name, cell.cell_contents)

    def _set(self, name: str, value: object) -> None:
        """Have the host set a constant."""
        if (text := _literal(value)) is not None:
            self._constants[name] = f"{name} = {text}"
            return
        statement = self._statements.get(name)
        if statement is None:
            raise _Untold
        self._constants[name] = ""
        self._reach(_names(statement))
        del self._constants[name]
        self._constants[name] = ast.unparse(statement)


def _tree(module: str) -> ast.Module | None:
    """Return the source of a module; None if it has no file."""
    try:
        return ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return None


def _imported(tree: ast.Module) -> Iterator[str]:
    """Go through the modules that a file imports at its top."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _assignments(module: str) -> dict[str, ast.stmt]:
    """Return the statements of a module that set one name each, of those names that only one statement sets."""
    tree = _tree(module)
    body = tree.body if tree else []
    found: dict[str, list[ast.stmt]] = {}
    for node in body:
        for name in (
            each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        ):
            found.setdefault(name, []).append(node)
    return {name: nodes[0] for name, nodes in found.items() if len(nodes) == 1 and _sets_one(nodes[0])}


def _sets_one(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return len(targets) == 1 and isinstance(targets[0], ast.Name)


def _names(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load))


def _needed_first(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    """Return the names that are looked up when a function or class is defined, but for annotations."""
    if isinstance(node, ast.ClassDef):
        parts: list[ast.AST] = [*node.decorator_list, *node.bases, *node.keywords]
        parts += [part for part in node.body if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
        inner = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        return {name for part in parts for name in _names(part)} | {
            name for part in inner for name in _needed_first(part)
        }
    defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default]
    return {name for part in (*node.decorator_list, *defaults) for name in _names(part)}


def _looked_up(value: types.FunctionType | type) -> set[str]:
    """Return the names that a function, or the methods of a class, look up in their module when they are called.

    Raises:
        _Untold: they look names up by themselves.
    """
    codes: list[types.CodeType] = []
    if isinstance(value, types.FunctionType):
        codes.append(value.__code__)
    else:
        codes += [method.__code__ for each in vars(value).values() if (method := _function_in(each))]
    found: set[str] = set()
    while codes:
        code = codes.pop()
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        for step in dis.get_instructions(code):
            if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
                found.add(step.argval)
            elif step.opname in {"STORE_GLOBAL", "DELETE_GLOBAL"}:
                raise _Untold
    if found & {"globals", "eval", "exec", "__import__"}:
        raise _Untold
    return found


def _function_in(value: Any) -> types.FunctionType | None:  # noqa: ANN401  # what a class may hold
    """Return the function that a member of a class is, or wraps."""
    for name in ("__func__", "fget", "func"):
        value = getattr(value, name, value)
    return value if isinstance(value, types.FunctionType) else None


def _home(value: object) -> tuple[str, str] | None:
    """Return the module and name under which something can be imported; None if there is none."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "builtins":
        return ("builtins", name) if isinstance(name, str) and getattr(builtins, name, None) is value else None
    return (module, name) if getattr(sys.modules.get(module), name, None) is value else None


def _literal(value: object) -> str | None:
    """Write a value as Python would read it, always in the same way; None if it is not made of numbers, text and their collections."""
    if any(isinstance(part, set | frozenset) for part in _parts(value)):
        return None
    text = repr(value)
    try:
        return text if ast.literal_eval(text) == value else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _parts(value: object) -> Iterator[object]:
    """Go through a value and all that is in it."""
    yield value
    inner = (
        (*value.keys(), *value.values())
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else ()
    )
    for part in inner:
        yield from _parts(part)


def _is_own(file: Path) -> bool:
    """Say whether a module belongs to the user: neither Python's own nor an installed one, nor a part of sshmap."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = [
        Path(place) for place in (*places, *(path for path in sys.path if path.endswith("-packages"))) if place
    ]
    ours = Path(__file__).parents[1]
    return not any(file.is_relative_to(place) for place in (*installed, ours))
