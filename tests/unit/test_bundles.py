"""What of a file goes to the hosts with a function: all that it reaches there, and nothing else."""

from __future__ import annotations

import importlib.util
import linecache
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap.client.functions import Bundle, bundle
from sshmap.errors import UsageError

HEAD = """
import collections, functools, json, re
from dataclasses import dataclass
import typer
from sshmap.functions import Input, Output
LIMIT = 5
WORD = re.compile(r"\\\\w+")
NAMES = {"a": [1, 2], "b": (3, None)}
SET = {"x", "y"}
FILLED = {}
for each in range(3):
    FILLED[each] = each * 2
app = typer.Typer()
""".replace("\\\\", "\\")
Loader = Callable[..., types.ModuleType]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loader]:
    """Load a module from source; it is forgotten afterwards."""
    loaded: list[str] = []

    def load(text: str, name: str = "steps") -> types.ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        linecache.checkcache(str(path))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def bundled(load: Loader, text: str, name: str = "f", shipped: tuple[Path, ...] = ()) -> Bundle:
    """Bundle a function of a file that begins with `HEAD`."""
    return bundle(getattr(load(HEAD + text), name), shipped)


def lines(load: Loader, text: str) -> list[str]:
    """Return the lines of a bundle but the first, which all have."""
    first, *rest = bundled(load, text).contents["steps.py"].decode().splitlines()
    assert first == "from __future__ import annotations"
    return rest


def run(bundle: Bundle, call: str) -> str:
    """Run a bundle on its own, with nothing of ours imported, and return what a call gives."""
    code = f"{bundle.contents[bundle.file].decode()}\nprint({call})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_function_comes_alone_where_it_reaches_nothing(load: Loader) -> None:
    assert lines(load, "def f(rows: Input, out: Output) -> None:\n    # a comment\n    out.write(rows.bytes())  # another\n") == [
        "def f(rows: Input, out: Output) -> None:", "    out.write(rows.bytes())",
    ]  # fmt: skip


CASES = {
    "constant": ("def f(): return LIMIT", ["LIMIT = 5"], "f()", "5"),
    "constant with structure": ("def f(): return NAMES['b']", ["NAMES = {'a': [1, 2], 'b': (3, None)}"], "f()", "(3, None)"),
    "constant filled later": ("def f(): return FILLED[2]", ["FILLED = {0: 0, 1: 2, 2: 4}"], "f()", "4"),
    "constant made by a call": ("def f(): return WORD.findall('a b')", ["import re", "WORD = re.compile('\\\\w+')"], "f()", "['a', 'b']"),
    "set": ("def f(): return sorted(SET)", ["SET = set(['x', 'y'])"], "f()", "['x', 'y']"),
    "module": ("def f(): return json.dumps(1)", ["import json"], "f()", "1"),
    "name of a module": ("def f(): return typer.__name__", ["import typer"], "", ""),
    "other function": ("def g(x): return x + LIMIT\ndef f(): return g(1)", ["LIMIT = 5", "def g(x):"], "f()", "6"),
    "each other": ("def g(n): return f(n - 1) if n else 7\ndef f(n): return g(n)", ["def g(n):"], "f(3)", "7"),
    "within a comprehension": ("def g(x): return x\ndef f(): return [g(x) for x in range(2)]", ["def g(x):"], "f()", "[0, 1]"),
    "within an inner function": ("def f():\n    def g(): return LIMIT\n    return g()", ["LIMIT = 5"], "f()", "5"),
    "default": ("def f(x=LIMIT, *, y=NAMES): return x", ["def f(x=5, *, y={'a': [1, 2], 'b': (3, None)}):"], "f()", "5"),
    "decorator": ("@functools.lru_cache\ndef g(): return LIMIT\ndef f(): return g()", ["import functools", "LIMIT = 5"], "f()", "5"),
    "class": (
        "@dataclass\nclass P:\n    x: int = LIMIT\n    def double(self): return self.x * len(NAMES)\ndef f(): return P().double()",
        ["from dataclasses import dataclass as dataclass", "LIMIT = 5", "@dataclass", "NAMES = {'a': [1, 2], 'b': (3, None)}"], "f()", "10",
    ),
    "base class": ("class A:\n    x = 1\nclass B(A):\n    pass\ndef f(): return B.x", ["class A:", "class B(A):"], "f()", "1"),
    "default of a loop": ("n = 100\ndef make():\n    for n in range(2):\n        def f(n=n): return n\n    return f\nf = make()", [], "f()", "1"),
    "set filled later": ("STOP = set()\nSTOP.add('the')\ndef f(): return STOP", ["STOP = set(['the'])"], "f()", "{'the'}"),
    "constant of a class": ("@dataclass\nclass C:\n    n: int\nCONF = C(7)\ndef f(): return CONF.n", ["CONF = C(7)"], "f()", "7"),
    "member of an enumeration": ("import enum\nclass E(enum.Enum):\n    A = 1\nA = E.A\ndef f(): return A.value", ["A = E.A"], "f()", "1"),
    "made by a function": ("def make(): return re.compile('a')\nPAT = make()\ndef f(): return PAT.pattern", ["PAT = make()"], "f()", "a"),
    "module of a package": (
        "import xml.etree.ElementTree\nimport xml.dom\ndef f(): return xml.etree.ElementTree.fromstring('<a/>').tag",
        ["import xml.etree.ElementTree"], "f()", "a",
    ),
    "wrapped": (
        "def twice(fn):\n    @functools.wraps(fn)\n    def g(): return 2 * fn()\n    return g\n@twice\ndef f(): return LIMIT",
        ["@twice", "LIMIT = 5"], "f()", "10",
    ),
    "named tuple": ("P = collections.namedtuple('P', 'x')\ndef f(): return P(1).x", ["P = collections.namedtuple('P', 'x')"], "f()", "1"),
    "lambda": ("g = lambda: LIMIT\ndef f(): return g()", ["LIMIT = 5", "g = lambda: LIMIT"], "f()", "5"),
    "instance of another module": ("from os import environ\ndef f(): return len(environ) > 0", ["from os import environ as environ"], "f()", "True"),
    "alias": ("def g(): return 1\nh = g\ndef f(): return h()", ["h = g"], "f()", "1"),
    "numbers that are none": (
        "X = [float('inf'), -0.5, (1,), frozenset()]\ndef f(): return X",
        ["X = [float('inf'), -0.5, (1,), frozenset([])]"], "f()", "[inf, -0.5, (1,), frozenset()]",
    ),
    "closure": ("def make(n):\n    def f(): return n + LIMIT\n    return f\nf = make(2)", ["n = 2", "LIMIT = 5"], "f()", "7"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_function_reaches_comes_along(load: Loader, case: str) -> None:
    text, expected, call, result = CASES[case]
    made = bundled(load, text)
    content = made.contents["steps.py"].decode().splitlines()
    assert [line for line in expected if line not in content] == []
    assert not any("app" in line for line in content)
    assert not call or run(made, call) == result


def test_what_it_does_not_reach_is_no_part_of_it(load: Loader) -> None:
    text = "def g(): return 1\ndef f(): return LIMIT\n"
    before = bundled(load, text).contents
    assert bundled(load, text.replace("return 1", "return 2")).contents == before
    assert bundled(load, f"# a comment\n\n\n{text}").contents == before
    assert bundled(load, text.replace("return LIMIT", "return LIMIT + 1")).contents != before


def test_changes_of_what_it_reaches_are_seen(load: Loader) -> None:
    text = "def g(): return LIMIT\ndef f(): return g()\n"
    before = bundled(load, text).contents
    assert bundled(load, text.replace("LIMIT", "LIMIT + 1")).contents != before
    assert bundled(load, f"LIMIT = 6\n{text}").contents != before


UNTOLD = {
    "global": ("def f():\n    global LIMIT\n    LIMIT = 1", "it sets LIMIT in its module"),
    "globals": ("def f(): return globals()['LIMIT']", "it calls globals"),
    "eval": ("def f(): return eval('LIMIT')", "it calls eval"),
    "set twice": ("X = re.compile('a')\nX = re.compile('b')\ndef f(): return X", "X is set in no statement of its own"),
    "filled by decorators": (
        "REG = {}\ndef reg(g):\n    REG[g.__name__] = g\n    return g\n@reg\ndef h(): pass\ndef f(): return REG",
        "REG may have been changed",
    ),
    "list in itself": ("X = []\nX.append(X)\ndef f(): return X", "X may have been changed"),
    "counter filled later": ("C = collections.Counter()\nC['a'] += 1\ndef f(): return C", "C may have been changed"),
    "single dispatch": (
        "@functools.singledispatch\ndef k(x): return 'other'\n@k.register\ndef _(x: int): return 'int'\ndef f(): return k(1)",
        "k is put together",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNTOLD)
def test_whole_file_goes_where_it_cannot_be_told(load: Loader, case: str) -> None:
    text, _ = UNTOLD[case]
    content = bundled(load, text).contents["steps.py"].decode()
    assert "app = typer.Typer()" in content
    assert "def f():" in content


@pytest.mark.parametrize("case", UNTOLD)
@pytest.mark.parametrize("line", ["from sshmap import Cluster", "import sshmap", "from sshmap.recipe import recipe"])
def test_whole_file_that_runs_jobs_itself_is_refused_with_the_reason(load: Loader, case: str, line: str) -> None:
    """On the hosts it would run them again."""
    text, reason = UNTOLD[case]
    with pytest.raises(UsageError, match=f"cannot be told what f reaches: {reason}"):
        bundled(load, f"{line}\n{text}")


def test_two_closures_of_one_function_are_not_taken_for_each_other(load: Loader) -> None:
    text = "from sshmap import Cluster\ndef make(n):\n    def add(x): return x + n\n    return add\n"
    text += "add1, add2 = make(1), make(2)\ndef f(): return add1(0), add2(0)"
    with pytest.raises(UsageError, match="two things are called add"):
        bundled(load, text)


@pytest.mark.parametrize(
    "text", ["def f(rows, out):\n    yield 1", "async def f(rows, out): pass"], ids=["generator", "coroutine"]
)
def test_function_that_nobody_would_run_is_refused(load: Loader, text: str) -> None:
    with pytest.raises(UsageError, match="f yields or awaits"):
        bundled(load, text)


def test_module_that_is_imported_within_a_function_comes_along(
    load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_helpers.py").write_text("def help(): return 4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = bundled(load, "def f():\n    import late_helpers\n    return late_helpers.help()")
    assert made.contents.keys() == {"steps.py", "late_helpers.py"}
    (tmp_path / "host").mkdir()
    assert run_all(made, tmp_path / "host", "f()") == "4"


HELPERS = """
import json
LIMIT = 9
def unused(): return json
def other(): return LIMIT
def help(): return other()
"""
TEXT = "from helpers import help, LIMIT as MOST\ndef f(): return help() + LIMIT + MOST"


def run_all(bundle: Bundle, folder: Path, call: str) -> str:
    """Run a bundle with all its files."""
    for name, content in bundle.contents.items():
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", f"import {bundle.file.removesuffix('.py')} as it\nprint(it.{call})"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_modules_beside_it_come_along_as_far_as_they_are_reached(load: Loader, tmp_path: Path) -> None:
    load(HELPERS, "helpers")
    made = bundled(load, TEXT)
    assert made.contents["helpers.py"].decode().splitlines() == [
        "from __future__ import annotations", "LIMIT = 9", "def other():", "    return LIMIT", "def help():", "    return other()",
    ]  # fmt: skip
    (tmp_path / "host").mkdir()
    assert run_all(made, tmp_path / "host", "f()") == "23"
    load(HELPERS.replace("unused", "renamed"), "helpers")
    assert bundled(load, TEXT) == made
    load(HELPERS.replace("return LIMIT", "return LIMIT + 1"), "helpers")
    assert bundled(load, TEXT) != made


def test_module_that_is_used_by_its_name_comes_as_a_whole(load: Loader, tmp_path: Path) -> None:
    load("def deep(): return 1\n", "deeper")
    load(f"import deeper\n{HELPERS}", "helpers")
    made = bundled(load, "import helpers\ndef f(): return helpers.help() + helpers.deeper.deep()")
    assert made.contents.keys() == {"steps.py", "helpers.py", "deeper.py"}
    (tmp_path / "host").mkdir()
    assert run_all(made, tmp_path / "host", "f()") == "10"


def test_module_that_is_shipped_is_imported_as_it_is(load: Loader, tmp_path: Path) -> None:
    load(HELPERS, "helpers")
    made = bundled(load, TEXT, shipped=(tmp_path / "helpers.py",))
    assert made.contents.keys() == {"steps.py"}
    assert "from helpers import help as help\n" in made.contents["steps.py"].decode()


def test_package_of_the_users_own_is_refused(load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("def help(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with pytest.raises(UsageError, match=r"uses mine of .*, which hosts do not have"):
            bundled(load, "from mine import help\ndef f(): return help()")
    finally:
        sys.modules.pop("mine", None)


@pytest.mark.parametrize("value", [len, "text".upper, lambda: 1, 3], ids=["builtin", "method", "lambda", "number"])
def test_what_is_no_function_with_a_name_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="is no function with a name"):
        bundle(value)  # type: ignore[arg-type]


def test_function_of_a_notebook_is_told_by_what_was_typed() -> None:
    """A notebook has no file: each cell is known to `linecache`, as IPython does it."""
    notebook = types.ModuleType("a_notebook")
    sys.modules["a_notebook"] = notebook
    try:
        for number, cell in enumerate(
            ["import re\nLIMIT = 5\nWORD = re\n", "def g(x):\n    return x + LIMIT\n", "def f():\n    return g(1)\n"]
        ):
            name = f"<ipython-input-{number}>"
            linecache.cache[name] = len(cell), None, cell.splitlines(keepends=True), name
            exec(compile(cell, name, "exec"), notebook.__dict__)
        made = bundle(notebook.f)
        assert (made.file, made.name, list(made.contents)) == ("notebook.py", "f", ["notebook.py"])
        assert run(made, "f()") == "6"
    finally:
        del sys.modules["a_notebook"]
