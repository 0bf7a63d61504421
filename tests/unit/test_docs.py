"""What the documents and the packages' docstrings say about the code: the walk of `map`, the words, the rooms."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import sshmap

PACKAGE = Path(sshmap.__file__).parent
TOP = PACKAGE.parent
ARCHITECTURE = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (TOP / "README.md").read_text(encoding="utf-8")
#: names that things had once, written so that this file does not hold them itself
FORMER = (
    *(rf"\b{word}s?\b" for word in ("kee" + "per", "tal" + "ly", "Stan" + "ding", "exami" + "nation")),
    *(rf"\b{word}\b" for word in ("Fa" + "te", "Me" + "et", "Ri" + "se", "Cour" + "se", "des" + "k")),
    *(rf"\b{word}\b" for word in ("for" + "give", "di" + "vides", "_lin" + "ks", "lin" + "ks: Conversations")),
)


#: packages whose docstrings name what is in them
NAMING = (
    *("", "cli", "client", "transport", "protocol", "store", "inventory"),
    *("agent", "agent.session", "agent.host", "agent.execution", "agent.daemon", "recipe"),
)


def section(text: str, title: str) -> str:
    """Return what stands below a heading of the second level, up to the next one."""
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def walk(text: str) -> list[str]:
    """Return the files of the package that a text names by their paths, in order."""
    return re.findall(r"`((?:cli|client|transport|agent|store)/[a-z_/]+\.py)`", text)


def rooms_in(room: str) -> set[str]:
    """Return the names of the packages in a package, which is named by its path below ours."""
    return {path.parent.name for path in (PACKAGE / room.replace(".", "/")).glob("*/__init__.py")}


def modules_in(room: str) -> set[str]:
    """Return the names of the modules in a package, without those of Python itself."""
    return {path.stem for path in (PACKAGE / room.replace(".", "/")).glob("*.py")} - {"__init__", "__main__"}


def test_walk_of_map_names_the_same_files_in_the_same_order_everywhere() -> None:
    """The walk of docs/architecture.md is that of the README and of the package's docstring; all its files exist."""
    files = walk(section(ARCHITECTURE, "The walk of `map`"))
    assert len(files) > 15
    assert walk(section(README, "Reading the code")) == files
    assert walk(sshmap.__doc__ or "") == files
    assert [name for name in files if not (PACKAGE / name).is_file()] == []


def test_every_word_of_the_table_occurs_in_the_package() -> None:
    """A word that the code does not use any more leaves the table."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")).lower()
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section(ARCHITECTURE, "Words"), re.MULTILINE)
    words = [word for row in rows if row != "word" for word in row.split(", ")]
    assert len(words) > 40
    assert [word for word in words if word.lower() not in code and word.replace(" ", "_") not in code] == []


@pytest.mark.parametrize(
    ("room", "rows"), [("", r"^([a-z_]+/?) "), ("agent", r"^(?:agent/ {7}| {13})([a-z]+/?) ")], ids=["package", "agent"]
)
def test_rooms_drawn_are_those_that_exist(room: str, rows: str) -> None:
    """docs/architecture.md draws each room and each module of the package, and of its agent, and no other."""
    drawing = section(ARCHITECTURE, "Rooms").split("```")[1]
    drawn = set(re.findall(rows, drawing, re.MULTILINE))
    assert drawn == {f"{name}/" for name in rooms_in(room)} | modules_in(room)


def test_each_step_of_the_walk_is_in_a_room_and_says_what_happens() -> None:
    """The walk of `map` is numbered without a gap, each file of it lies in a room that exists, and a sentence follows."""
    text = section(ARCHITECTURE, "The walk of `map`")
    steps = re.findall(r"^(\d+)\. `([a-z_/]+)/([a-z_]+)\.py`: \S.*[^.]\.$", text, re.MULTILINE)
    assert [int(number) for number, _, _ in steps] == list(range(1, len(walk(text)) + 1))
    assert [(room, module) for _, room, module in steps if module not in modules_in(room)] == []


@pytest.mark.parametrize("room", NAMING)
def test_package_docstring_names_each_module_and_package_in_it(room: str) -> None:
    """The docstring of a package says what is in it."""
    package = importlib.import_module(f"sshmap.{room}".rstrip("."))
    named = set(re.findall(r"`([a-z_]+)(?:\.py)?`", package.__doc__ or ""))
    assert (modules_in(room) | rooms_in(room)) - named == set()


@pytest.mark.parametrize("former", FORMER)
def test_no_former_name_is_left(former: str) -> None:
    """One name per thing: what was renamed is renamed everywhere."""
    files = [TOP / "README.md", *(TOP / "docs").glob("*.md")]
    files += [path for top in (PACKAGE, TOP / "tests") for path in top.rglob("*.py")]
    assert [path.name for path in files if re.search(former, path.read_text(encoding="utf-8"))] == []
