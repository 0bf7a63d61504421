"""Lines that people type in s4, aws s3 and scripts, word for word: what they print, what they make, and their exit codes.

Each line is run by `bash -c` in an empty directory on the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine

#: name and content of every key
KEYS = {
    "b/d/x": "1\n", "b/d/deep/y": "22\n", "b/d2/x": "333\n", "b/top": "4444\n", "b2/d/x": "55555\n", "other/a b": "6\n",
}  # fmt: skip
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
#: as the README has it, since names may hold spaces
MERGE = "sshmap -q merge s4://m3/ s4://m4/ \"tr '\\n' '\\0' | xargs -0 cat | sort\""
#: numbers deal two files out, and are left away on the way back
NUMBERED = """mkdir t; echo -n 1 > t/a; echo -n 22 > t/b; sshmap -q cp -r --number t s4://num; rm -r t
sshmap -q cp -r --number s4://num out; sshmap -q sync --number s4://num in; sshmap -q cp -r s4://num .; sshmap rm -r s4://num"""
#: line, exit code, stdout with stamps as TIME
SAID = [
    # a listing
    ("sshmap ls", 0, "TIME         14 b\nTIME          6 b2\nTIME          2 other\n"),
    ("sshmap ls s4://b", 0, "                           PRE d/\n                           PRE d2/\nTIME          5 top\n"),
    ("sshmap ls s4://b/", 0, "                           PRE d/\n                           PRE d2/\nTIME          5 top\n"),
    ("sshmap ls s4://b/d", 0, "                           PRE d/\n                           PRE d2/\n"),
    ("sshmap ls s4://b/d/", 0, "                           PRE deep/\nTIME          2 x\n"),
    ("sshmap ls s4://buc", 1, ""),
    ("sshmap ls s4://b/none", 1, ""),
    ("sshmap ls -r s4://b", 0, "TIME          3 d/deep/y\nTIME          2 d/x\nTIME          4 d2/x\nTIME          5 top\n"),
    ("sshmap ls -r s4://b/d", 0, "TIME          3 d/deep/y\nTIME          2 d/x\nTIME          4 d2/x\n"),
    ("sshmap ls -r s4://b/d/", 0, "TIME          3 d/deep/y\nTIME          2 d/x\n"),
    ("sshmap ls -r s4://b2", 0, "TIME          6 d/x\n"),
    ("sshmap ls -r s4://buc", 1, ""),
    ("sshmap ls -0 | tr '\\0' ' '", 0, "b b2 other "),
    ("for bucket in $(sshmap ls | awk '{print $NF}'); do sshmap ls -r sm://$bucket | wc -l; done", 0, "4\n1\n1\n"),
    # contents
    ("sshmap cp s4://b/d/x -", 0, "1\n"),
    ("sshmap cp 's4://other/a b' -", 0, "6\n"),
    ("sshmap cat s4://b/d/x s4://b/top", 0, "1\n4444\n"),
    ("sshmap cat s4://b/top s4://b/d/x", 0, "4444\n1\n"),
    ("sshmap cat s4://b/d/", 0, "22\n1\n"),
    ("sshmap cat s4://b/d", 0, "22\n1\n"),
    ("sshmap cat s4://b", 0, "22\n1\n333\n4444\n"),
    ("sshmap cat 's4://b/*/x'", 0, "1\n333\n"),
    ("sshmap cat s4://b/none", 1, ""),
    ("sshmap cat s4://b/none/", 1, ""),
    ("sshmap cat 's4://b/*/none'", 1, ""),
    ("sshmap cp -r s4://b/d -", 0, "22\n1\n"),
    ("sshmap eval s4://b/d/deep/y 'wc -c'", 0, "3\n"),
    # what is not there is not there afterwards either
    ("set -e; sshmap rm -r s4://none/; sshmap rm -r s4://none; sshmap rm -r s4://b/none; echo on", 0, "on\n"),
    ("sshmap rm s4://b/none", 1, ""),
    # a map, a fan-out that prints absolute names, a merge of names with spaces
    ("sshmap -q map s4://b/d/ s4://m1/ 'tr 1 9' && sshmap cat s4://m1/x", 0, "9\n"),
    ("sshmap -q map-to-n s4://b/d/ s4://m2/ 'cat > o; echo $PWD/o' && sshmap cat s4://m2/x/o", 0, "1\n"),
    ("sshmap -q fanout s4://b/d/ s4://m3/ \"cat > 'a b'; echo 'a b'\" && " + MERGE + " && sshmap cat 's4://m4/a b'", 0, "1\n22\n"),
]  # fmt: skip
#: line, and the files it makes below the directory it is typed in
MADE = [
    ("sshmap cp -r s4://b/d/ .", {"d/x": "1\n", "d/deep/y": "22\n"}),
    ("sshmap cp -r s4://b/d .", {"d/x": "1\n", "d/deep/y": "22\n"}),
    ("sshmap cp -r s4://b/d/deep .", {"deep/y": "22\n"}),
    ("sshmap cp -r s4://b/d/ out/", {"out/x": "1\n", "out/deep/y": "22\n"}),
    ("sshmap cp -r s4://b/d out", {"out/x": "1\n", "out/deep/y": "22\n"}),
    ("sshmap cp -r s4://b/d ./out", {"out/x": "1\n", "out/deep/y": "22\n"}),
    ("mkdir out; sshmap cp -r s4://b/d out", {"out/x": "1\n", "out/deep/y": "22\n"}),
    ("sshmap cp -r s4://b .", {"d/x": "1\n", "d/deep/y": "22\n", "d2/x": "333\n", "top": "4444\n"}),
    ("sshmap cp -r s4://b/ .", {"d/x": "1\n", "d/deep/y": "22\n", "d2/x": "333\n", "top": "4444\n"}),
    ("sshmap cp -r s4://b2 out", {"out/d/x": "55555\n"}),
    ("sshmap cp s4://b/d/x .", {"x": "1\n"}),
    ("sshmap cp s4://b/d/x new", {"new": "1\n"}),
    ("sshmap cp s4://b/d/x out/", {"out/x": "1\n"}),
    ("sshmap cp -r --include x s4://b out", {"out/d/x": "1\n", "out/d2/x": "333\n"}),
    ("sshmap cp -r --exclude d s4://b out", {"out/d2/x": "333\n", "out/top": "4444\n"}),
    ("sshmap cp -r --include 'd*/x' --exclude d2 s4://b out", {"out/d/x": "1\n"}),
    ("sshmap sync s4://b/d out", {"out/x": "1\n", "out/deep/y": "22\n"}),
    (
        NUMBERED,
        {"out/a": "1", "out/b": "22", "in/a": "1", "in/b": "22", "0001_a": "1", "0000_b": "22"},
    ),
]
#: line, and the keys below sm://up/ that it makes; the directory holds t/f, t/g/h, one and two
STORED = [
    ("sshmap cp -r t s4://up/", {"f": "F", "g/h": "H"}),
    ("sshmap cp -r t/ s4://up", {"f": "F", "g/h": "H"}),
    ("sshmap cp -r t s4://up/at", {"at/f": "F", "at/g/h": "H"}),
    ("sshmap cp -r t/ s4://up/at/", {"at/f": "F", "at/g/h": "H"}),
    ("sshmap cp one s4://up/", {"one": "1"}),
    ("sshmap cp one s4://up", {"one": "1"}),
    ("sshmap cp one s4://up/at", {"at": "1"}),
    ("sshmap cp one two s4://up/at/", {"at/one": "1", "at/two": "2"}),
    ("sshmap cp -r t one s4://up/at", {"at/f": "F", "at/g/h": "H", "at/one": "1"}),
    ("echo -n piped | sshmap cp - s4://up/at", {"at": "piped"}),
    ("sshmap cp -r --exclude g t s4://up", {"f": "F"}),
    ("sshmap cp -r --exclude g/ t s4://up", {"f": "F"}),
    ("sshmap cp -r --include '*/h' t s4://up", {"g/h": "H"}),
    ("sshmap sync t s4://up/at", {"at/f": "F", "at/g/h": "H"}),
    ("sshmap cp one s4://up/k; sshmap cp --replace two s4://up/k", {"k": "2"}),
    ("sshmap cp -r t s4://up; echo -n new > t/f; sshmap cp -r --replace t s4://up", {"f": "new", "g/h": "H"}),
    ("sshmap cp -r t s4://up; echo -n new > t/f; sshmap sync t s4://up", {"f": "new", "g/h": "H"}),
    ("sshmap cp -r t s4://up; rm t/f; sshmap sync t s4://up", {"f": "F", "g/h": "H"}),
    ("sshmap cp -r t s4://up; rm t/f; sshmap sync --delete t s4://up", {"g/h": "H"}),
    ("sshmap cp -r t s4://up; rm t/f; sshmap sync --delete --exclude f t s4://up", {"f": "F", "g/h": "H"}),
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line on a cluster that holds `KEYS`."""
    commandline = CommandLine(tmp_path_factory.mktemp("s4"))
    commandline.environment["SSHMAP_LOCAL"] = "3"
    try:
        for name, content in KEYS.items():
            commandline.succeed("cp", "-", f"sm://{name}", stdin=content.encode())
        yield commandline
    finally:
        commandline.finish()


def lying_below(folder: Path) -> dict[str, str]:
    """Return the files below a directory."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def typed(commandline: CommandLine, folder: Path, line: str) -> tuple[int, str, str]:
    """Type a line in a directory; return exit code, stdout and stderr."""
    done = commandline.shell(f"cd '{folder}' && {line}")
    return done.code, done.out.decode(), done.err


@pytest.mark.parametrize(("line", "code", "said"), SAID, ids=[line for line, _, _ in SAID])
def test_line_prints_and_exits_as_people_expect(
    filled: CommandLine, tmp_path: Path, line: str, code: int, said: str
) -> None:
    ended, out, err = typed(filled, tmp_path, line)
    assert (ended, re.sub(STAMP, "TIME", out)) == (code, said), err
    for bucket in dict.fromkeys(re.findall(r"s4://m\d", line)):
        filled.succeed("rm", "-r", bucket)


@pytest.mark.parametrize(("line", "files"), MADE, ids=[line for line, _ in MADE])
def test_copy_out_makes_the_files_that_people_expect(
    filled: CommandLine, tmp_path: Path, line: str, files: dict[str, str]
) -> None:
    (tmp_path / "in").mkdir()
    code, _, err = typed(filled, tmp_path / "in", line)
    assert (code, lying_below(tmp_path / "in")) == (0, files), err


@pytest.mark.parametrize(("line", "keys"), STORED, ids=[line for line, _ in STORED])
def test_copy_in_makes_the_keys_that_people_expect(
    filled: CommandLine, tmp_path: Path, line: str, keys: dict[str, str]
) -> None:
    for name, content in {"t/f": "F", "t/g/h": "H", "one": "1", "two": "2"}.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    code, _, err = typed(filled, tmp_path / "in", line)
    filled.succeed("cp", "-r", "sm://up", tmp_path / "out")
    filled.succeed("rm", "-r", "sm://up")
    assert (code, lying_below(tmp_path / "out")) == (0, keys), err


@pytest.mark.parametrize("prefix", ["sm://gone", "sm://gone/", "sm://gone/a"])
def test_removal_of_a_bucket_spares_those_whose_names_begin_alike(filled: CommandLine, prefix: str) -> None:
    for name in ("gone/a", "gone2/a"):
        filled.succeed("cp", "-", f"sm://{name}", stdin=b"x")
    assert "deleted 1 keys" in filled.succeed("rm", "-r", prefix).err
    assert filled.succeed("cat", "sm://gone2/a").out == b"x"
    filled.succeed("rm", "-r", "sm://gone2")
