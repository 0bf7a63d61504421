"""What the documents say about the code: the walk of `map`, the words, the rooms."""

from __future__ import annotations

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
    *(rf"\b{word}\b" for word in ("Fa" + "te", "Me" + "et", "Ri" + "se", "Ha" + "lt", "Cour" + "se", "des" + "k")),
    *(rf"\b{word}\b" for word in ("for" + "give", "di" + "vides", "_lin" + "ks", "lin" + "ks: Conversations")),
)


def section(text: str, title: str) -> str:
    """Return what stands below a heading of the second level, up to the next one."""
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def walk(text: str) -> list[str]:
    """Return the files of the package that a text names by their paths, in order."""
    return re.findall(r"`((?:cli|client|transport|agent|store)/[a-z_/]+\.py)`", text)


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


def test_every_module_is_in_a_room() -> None:
    """What lies in the package, and in its agent, is drawn in docs/architecture.md."""
    drawn = set(re.findall(r"\b[a-z]+\b", section(ARCHITECTURE, "Rooms").split("```")[1]))
    rooms = {path.name.split(".")[0] for top in (PACKAGE, PACKAGE / "agent") for path in top.iterdir()}
    assert rooms - drawn - {"__init__", "__main__", "__pycache__", "py"} == set()


@pytest.mark.parametrize("former", FORMER)
def test_no_former_name_is_left(former: str) -> None:
    """One name per thing: what was renamed is renamed everywhere."""
    files = [TOP / "README.md", *(TOP / "docs").glob("*.md")]
    files += [path for top in (PACKAGE, TOP / "tests") for path in top.rglob("*.py")]
    assert [path.name for path in files if re.search(former, path.read_text(encoding="utf-8"))] == []
