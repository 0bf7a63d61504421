"""What can be read from a function's code and its module's source: which names it looks up, and which statements make them."""

from __future__ import annotations

import ast
import builtins
import dis
import importlib.util
import inspect
import math
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

#: names that let a function look up others by itself
_BY_THEMSELVES = {"globals", "eval", "exec", "__import__"}


class Untold(Exception):
    """It cannot be told what a function reaches.

    Args:
        reason: why, as the end of a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def file_of(module: str) -> Path | None:
    """Return the file of a module, which need not be imported; None if it has none."""
    if loaded := sys.modules.get(module):
        path = getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        path = spec.origin if spec else None
    return Path(path) if path and Path(path).exists() else None


def tree_of(module: str) -> ast.Module | None:
    """Return the source of a module; None if it has no file."""
    path = file_of(module)
    if path is None or path.suffix != ".py":
        return None
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def is_own(file: Path) -> bool:
    """Say whether a module belongs to the user: neither Python's own nor an installed one, nor a part of sshmap."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [path for path in sys.path if path.endswith("-packages")]
    installed = [Path(place) for place in places if place]
    return not any(file.is_relative_to(place) for place in (*installed, Path(__file__).parents[1]))


class Statements:
    """The statements at the top of a module, by the names that they set.

    Args:
        tree: its source; None if that is not known.
    """

    def __init__(self, tree: ast.Module | None) -> None:
        #: by name, what imports it: module, name there (empty for the module itself), and the statement
        self.imports: dict[str, list[tuple[str, str, str]]] = {}
        self._setting: dict[str, list[ast.stmt]] = {}
        for node in tree.body if tree else ():
            for module, name, alias, text in imported(node):
                self.imports.setdefault(alias, []).append((module, name, text))
            for name in _set_in(node):
                self._setting.setdefault(name, []).append(node)

    def setting(self, name: str) -> ast.stmt | None:
        """Return the statement that sets a name and nothing else, if there is just one that sets it."""
        nodes = self._setting.get(name, [])
        return nodes[0] if len(nodes) == 1 and _sets_one(nodes[0]) else None


def imported(node: ast.stmt) -> Iterator[tuple[str, str, str, str]]:
    """Go through what a statement imports: module, name there, name here, and a statement that imports just that."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            text = f"import {alias.name} as {alias.asname}" if alias.asname else f"import {alias.name}"
            yield alias.name, "", alias.asname or alias.name.partition(".")[0], text
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            here = alias.asname or alias.name
            yield node.module, alias.name, here, f"from {node.module} import {alias.name} as {here}"


def _set_in(node: ast.AST) -> Iterator[str]:
    """Go through the names that a statement sets, but for those within functions and classes."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _set_in(child)


def _sets_one(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return len(targets) == 1 and isinstance(targets[0], ast.Name)


def names_in(node: ast.AST) -> Iterator[str]:
    """Go through the names that an expression or statement looks up."""
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load))


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def needed_first(node: Definition) -> set[str]:
    """Return the names that are looked up when a function or class is defined, but for annotations of functions."""
    if isinstance(node, ast.ClassDef):
        parts: list[ast.AST] = [*node.decorator_list, *node.bases, *node.keywords]
        parts += [part for part in node.body if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
        inner = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        found = {name for part in parts for name in names_in(part)}
        return found.union(*(needed_first(part) for part in inner))
    defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default]
    return {name for part in (*node.decorator_list, *defaults) for name in names_in(part)}


def looked_up(value: types.FunctionType | type) -> tuple[set[str], set[str]]:
    """Return the names that a function, or the methods of a class, look up in their module, and the modules that they import.

    Raises:
        Untold: they look names up by themselves, or set some.
    """
    found: dict[str, set[str]] = {}
    for step in (step for code in _codes_of(value) for step in dis.get_instructions(code)):
        found.setdefault(step.opname, set()).add(step.argval if isinstance(step.argval, str) else "")
    if changed := found.get("STORE_GLOBAL", set()) | found.get("DELETE_GLOBAL", set()):
        raise Untold(f"it sets {min(changed)} in its module")
    names = found.get("LOAD_GLOBAL", set()) | found.get("LOAD_NAME", set())
    if calls := names & _BY_THEMSELVES:
        raise Untold(f"it calls {min(calls)}")
    return names, found.get("IMPORT_NAME", set())


def _codes_of(value: types.FunctionType | type) -> Iterator[types.CodeType]:
    """Go through the code of a function, or of a class's own methods, and of all functions within."""
    functions = [value] if isinstance(value, types.FunctionType) else map(_function_in, vars(value).values())
    # a class has functions of others too, such as what enum and dataclasses put into it
    left = [function.__code__ for function in functions if function and function.__module__ == value.__module__]
    while left:
        yield (code := left.pop())
        left += [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _function_in(value: Any) -> types.FunctionType | None:  # noqa: ANN401  # what a class may hold
    """Return the function that a member of a class is, or wraps."""
    for name in ("__func__", "fget", "func"):
        value = getattr(value, name, value)
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, types.FunctionType) else None


def home_of(value: object) -> tuple[str, str] | None:
    """Return the module and name under which something can be imported; None if there is none."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "builtins":
        return ("builtins", name) if isinstance(name, str) and getattr(builtins, name, None) is value else None
    return (module, name) if getattr(sys.modules.get(module), name, None) is value else None


class _UnwrittenError(Exception):
    """A value is not made of numbers, text and their collections."""


def written(value: object) -> str | None:
    """Write a value as Python would read it, always in the same way; None if it is not made of numbers, text and their collections."""
    try:
        return _written(value)
    except (_UnwrittenError, RecursionError):
        return None


def _written(value: object) -> str:
    kind = type(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if kind in {types.NoneType, bool, int, float, str, bytes}:
        return repr(value)
    if isinstance(value, dict) and kind is dict:
        return "{" + ", ".join(f"{_written(key)}: {_written(part)}" for key, part in value.items()) + "}"
    if kind in _WRITERS and isinstance(value, Iterable):
        return _WRITERS[kind]([_written(part) for part in value])
    raise _UnwrittenError


#: by type of collection: writes it, given what its parts are written as
_WRITERS: dict[type, Callable[[list[str]], str]] = {
    list: lambda parts: f"[{', '.join(parts)}]",
    tuple: lambda parts: f"({', '.join(parts)}{',' * (len(parts) == 1)})",
    set: lambda parts: f"set([{', '.join(sorted(parts))}])",
    frozenset: lambda parts: f"frozenset([{', '.join(sorted(parts))}])",
}
