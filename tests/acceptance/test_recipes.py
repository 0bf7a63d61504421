"""Recipes as people run them: what runs, what is kept, what is said before, and what happens when one is stopped."""

from __future__ import annotations

import collections
import contextlib
import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import duckdb
import pytest

from sshmap import Cluster
from sshmap.model import AttemptEnd
from sshmap.recipe import Data, Files, Recipe, recipe
from tests import postgresql
from tests.conftest import wait_until

postgresql_server = postgresql.postgresql_server

REPOSITORY = Path(__file__).parents[2]
#: seconds
LIMIT = 60
HOSTS, TEXTS = 2, 6
#: counts words; `least` is part of the command of the second step, `pause` of that of the first
TEXT = '''
from typing import Annotated
from sshmap.recipe import Files, Pattern, Table, recipe

@recipe
def words(texts: Annotated[Files, Pattern("*.txt", "Texts.")], least: int = 0, pause: float = 0) -> Table:
    """Count words."""
    lines = texts.map("lines", f"sleep {pause}; tr ' ' '\\\\n'")
    counted = lines.map("counted", f"sort | uniq -c | awk '$1 >= {least} {{ print $2, $1 }}'")
    gathered = counted.fanout("gathered", f"sleep {pause}; cat > all; echo all")
    add = "tr '\\\\n' '\\\\0' | xargs -0 cat | awk '{ n[$1] += $2 } END { for (w in n) print w, n[w] }' | sort"
    return gathered.merge("total", add).table("word", "count")

if __name__ == "__main__":
    words.main()
'''
STEPS = ("lines", "counted", "gathered", "total")
WORDS = ("one", "two", "three")


class Ended(NamedTuple):
    """What a recipe printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def counts(self) -> dict[str, int]:
        """Words and how often they come."""
        return {row["word"]: row["count"] for row in json.loads(self.out)}

    @property
    def ran(self) -> tuple[int, ...]:
        """Number of tasks that ran, step by step."""
        found = dict(line.split(": ", 1) for line in self.err.splitlines())
        return tuple(int(found[step].split(" ran")[0]) for step in STEPS)


class Script:
    """A recipe in a file, with texts beside it.

    Args:
        folder: an empty directory.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self.texts = folder / "words.py", folder / "texts"
        self.file.write_text(TEXT)
        self.texts.mkdir()
        for number in range(TEXTS):
            self.write(number)

    def write(self, number: int, more: str = "") -> Path:
        """Write one text."""
        path = self.texts / f"t{number}.txt"
        path.write_text(" ".join(WORDS[: 1 + number % 3] * (number + 1)) + f"\n{more}")
        return path

    @property
    def expected(self) -> dict[str, int]:
        """The words as Python counts them."""
        return dict(collections.Counter(word for path in self.texts.iterdir() for word in path.read_text().split()))

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start the recipe."""
        argv = [sys.executable, self.file, "--local", HOSTS, "--json", "--texts", self.texts, *arguments]
        return subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def type(self, *arguments: object) -> Ended:
        """Run the recipe to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=LIMIT)
        return Ended(process.returncode, out, err)

    def succeed(self, *arguments: object) -> Ended:
        """Run the recipe, which has to succeed."""
        ended = self.type(*arguments)
        assert ended.code == 0, ended
        return ended


@pytest.fixture
def script(local_state: Path, tmp_path: Path) -> Script:
    """The recipe."""
    return Script(tmp_path)


def keys(prefix: str = "sm://") -> dict[str, bytes]:
    """Return all keys below a prefix with their digests."""
    with Cluster(local=HOSTS) as cluster:
        return {row.name: row.digest for row in cluster.where(prefix)} if cluster.count(prefix).keys else {}


def change_text(script: Script) -> tuple[object, ...]:
    script.write(1, "four")
    return ()


def add_text(script: Script) -> tuple[object, ...]:
    script.write(TEXTS)
    return ()


def remove_text(script: Script) -> tuple[object, ...]:
    (script.texts / "t2.txt").unlink()
    return ()


def replace_text(script: Script) -> tuple[object, ...]:
    remove_text(script)
    return add_text(script)


@pytest.mark.parametrize(
    ("change", "ran"),
    [
        (change_text, (1, 1, 1, 1)), (add_text, (1, 1, 1, 1)), (remove_text, (0, 0, 0, 1)), (replace_text, (1, 1, 1, 1)),
        (lambda _: ("--least", 1), (0, TEXTS, 0, 0)),
    ],
    ids=["changed", "new", "gone", "one gone, one new", "another command"],
)  # fmt: skip
def test_what_has_changed_takes_along_what_depends_on_it(
    script: Script, change: Callable[[Script], tuple[object, ...]], ran: tuple[int, ...]
) -> None:
    """And the dry run has said so: at most what ran, as equal content changes nothing any more."""
    assert script.succeed().ran == (TEXTS, TEXTS, TEXTS, 1)
    options, before = change(script), keys()
    planned = {row["step"]: row for row in json.loads(script.succeed("-n", *options).out)}
    assert keys() == before
    ended = script.succeed(*options)
    assert (ended.ran, ended.counts) == (ran, script.expected)
    assert all(planned[step]["run"] >= count for step, count in zip(STEPS, ran, strict=True)), planned
    assert planned["lines"]["run"] == ran[0]
    again = script.succeed(*options)
    assert (again.ran, again.counts) == ((0, 0, 0, 0), script.expected)


def test_text_that_is_gone_is_not_counted_although_the_command_has_changed_too(script: Script) -> None:
    """What another command had made of it is no output of the present one."""
    script.succeed()
    remove_text(script)
    ended = script.succeed("--least", 1)
    assert ended.counts == script.expected
    assert not [key for key in keys() if "t2.txt" in key]


def test_environments_do_not_touch_each_other(script: Script) -> None:
    script.succeed("--env", "prod")
    before = keys("sm://prod/")
    script.write(1, "four")
    # at once, as those of one environment could not
    with script.start("--env", "dev-anna", "--pause", 0.1) as other:
        script.succeed()
        other.communicate(timeout=LIMIT)
    assert other.returncode == 0
    assert keys("sm://prod/") == before
    assert {key.split("/")[2] for key in keys()} == {"dev", "dev-anna", "prod"}
    assert script.succeed("--env", "prod").ran == (1, 1, 1, 1)


def test_until_and_from_a_step(script: Script) -> None:
    ended = script.succeed("--until", "counted")
    assert ended.err.splitlines()[-1] == f"done: {2 * TEXTS} ran, 0 kept"
    assert not ended.out
    assert {key.split("/")[5] for key in keys()} == {"texts", "lines", "counted"}
    ended = script.succeed("--from", "gathered")
    assert ended.counts == script.expected
    assert ended.err.splitlines()[-1] == f"done: {TEXTS + 1} ran, 0 kept"


def test_drawing_needs_no_cluster(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(script.file.parent / "state"))
    assert script.succeed("--graph", "text").out.splitlines() == [
        "texts  files *.txt", "└─ lines  map", "   └─ counted  map", "      └─ gathered  fanout", "         └─ total  merge",
    ]  # fmt: skip
    assert "    gathered -->|merge| total" in script.succeed("--graph", "mermaid").out.splitlines()
    assert not (script.file.parent / "state").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--env", "Prod"), "--env 'Prod': no name for an environment"), (("--until", "nothing"), "recipe words has no step 'nothing'"),
        (("--texts", "/nowhere"), "no files *.txt in /nowhere"), (("--least", "x"), "Invalid value for '--least'"),
    ],
    ids=["environment", "step", "files", "parameter"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    script: Script, options: tuple[str, ...], said: str
) -> None:
    ended = script.type(*options)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert not keys()


def test_exception_of_the_recipe_itself_is_said_in_one_line(script: Script) -> None:
    script.file.write_text(TEXT.replace('    """Count words."""', "    {}['least']"))
    ended = script.type()
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"error: recipe words: KeyError: 'least' ({script.file}, line 7)\n"


def test_failed_step_is_said_with_what_to_type_on_the_same_cluster(script: Script) -> None:
    script.file.write_text(TEXT.replace("sort | uniq -c", "echo odd >&2; exit 3"))
    ended = script.type()
    assert (ended.code, json.loads(ended.out)["failed"]) == (1, TEXTS)
    argv: list[str | Path] = [sys.executable, script.file, "--local", str(HOSTS), "--texts", script.texts]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = (
        next(line for line in done.stderr.splitlines() if line.startswith(start)) for start in ("error:", "hint:")
    )
    assert f"{TEXTS} keys on local[0-1]: exit 3: odd" in error
    assert f"sshmap --local {HOSTS} shell sm://dev/words/" in hint
    assert hint.endswith("the same command runs what failed again")


def test_second_run_on_the_same_data_is_refused_and_names_the_first(script: Script) -> None:
    with script.start("--pause", 1) as first:
        wait_until(lambda: any("/texts/" in key for key in keys()), what="the first run begins")
        second = script.type()
        assert second.code == 4
        assert f"/words/texts-{dataset(script)}/ is in use by recipe words of" in second.err
        assert f"process {first.pid}" in second.err
        assert script.succeed("--env", "dev-anna").counts == script.expected
        out, err = first.communicate(timeout=LIMIT)
    assert (first.returncode, Ended(0, out, err).counts) == (0, script.expected)


def dataset(script: Script) -> str:
    """Return the digest in the name of the texts' directory."""
    (found,) = {key.split("/")[4] for key in keys("sm://dev/")}
    return found.removeprefix(f"{script.texts.name}-")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_recipe_that_is_stopped_goes_on_where_it_was(script: Script, number: int) -> None:
    """Nothing runs twice but what was running."""
    dice = random.Random(number)
    for _ in range(2):
        with script.start("--pause", 0.2) as process:
            try:
                process.wait(dice.uniform(0.2, 2.5))
            except subprocess.TimeoutExpired:
                process.send_signal(number)
            process.communicate(timeout=LIMIT)
        assert process.returncode in (0, 130, -signal.SIGKILL)
    assert script.succeed("--pause", 0.2).counts == script.expected
    with Cluster(local=HOSTS) as cluster:
        runs = [run for run in cluster.jobs() if run.outdir.startswith(f"sm://dev/words/texts-{dataset(script)}/")]
        done = collections.Counter(
            run.outdir for run in runs for _, row in cluster.attempts(run.run) if row.outcome is AttemptEnd.DONE
        )
    assert max(done.values()) == TEXTS


def test_recipe_is_a_function_for_python_too(script: Script, tmp_path: Path) -> None:
    @recipe
    def lengths(texts: Files) -> Data:
        """Lengths."""
        return texts.map("lengths", "wc -c").merge("all", "xargs cat")

    with Cluster(local=HOSTS) as cluster:
        assert lengths.run(cluster, texts=script.texts, env="dev-test") == []
        rows = list(cluster.where("sm://dev-test/lengths/"))
        assert len(rows) == 3 * TEXTS
        assert cluster.get(rows[0]).strip() == b"%d" % (script.texts / "t0.txt").stat().st_size


def test_parameters_of_every_recipe_cannot_be_taken() -> None:
    def odd(texts: Files, json: bool = False) -> None:
        """Odd."""

    with pytest.raises(Exception, match="has a parameter 'json', as every recipe"):
        Recipe(odd)


FUNCTIONS = """
import collections
from typing import Annotated

import typer

from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.recipe import Files, Pattern, Table, recipe

LEAST = 0


def count(rows: Input, out: Output) -> None:
    words = collections.Counter(word for line in rows.lines() for word in line.split())
    out.lines(f"{word} {count}" for word, count in sorted(words.items()) if count >= LEAST)


def gather(rows: Input, outputs: Outputs) -> None:
    outputs["all"].write(rows.bytes())


def add(group: Inputs, out: Output) -> None:
    words = collections.Counter()
    for one in group:
        for line in one.lines():
            word, count = line.split()
            words[word] += int(count)
    out.lines(f"{word} {count}" for word, count in sorted(words.items()))


@recipe
def words(texts: Annotated[Files, Pattern("*.txt")], loud: Annotated[bool, typer.Option()] = False) -> Table:
    return texts.map(count).fanout(gather).merge("total", add).table("word", "count")


if __name__ == "__main__":
    words.main()
"""


def test_steps_may_be_functions_and_change_with_what_they_reach(script: Script) -> None:
    script.file.write_text(FUNCTIONS)
    ended = script.succeed()
    assert (ended.counts, ended.err.splitlines()[-1]) == (script.expected, f"done: {2 * TEXTS + 1} ran, 0 kept")
    for text, ran in (
        (f"# a comment\n{FUNCTIONS}", f"nothing ran: all {2 * TEXTS + 1} results were there already"),
        (
            FUNCTIONS.replace('Pattern("*.txt")', 'Pattern("t*.txt")'),
            f"nothing ran: all {2 * TEXTS + 1} results were there already",
        ),
        (FUNCTIONS.replace("LEAST = 0", "LEAST = 1"), f"done: {TEXTS} ran, {TEXTS + 1} kept"),
    ):
        script.file.write_text(text)
        assert script.succeed().err.splitlines()[-1] == ran


def test_table_is_loaded_once_however_often_it_is_run(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each environment has a database of its own, unless one is named."""
    script.file.write_text(
        TEXT.replace('.table("word", "count")', '.table("word", "count").load("words", keys=["word"])')
    )
    monkeypatch.chdir(script.file.parent)

    def loaded(name: str) -> dict[str, int]:
        with contextlib.closing(sqlite3.connect(script.file.parent / name)) as db:
            return dict(db.execute("SELECT word, count FROM words").fetchall())

    for _ in range(2):
        assert "words: 3 rows loaded into dev.sqlite, which has 3" in script.succeed().err.splitlines()
    assert loaded("dev.sqlite") == script.expected
    script.write(1, "four")
    script.succeed("--env", "prod")
    script.succeed("--database", "other.sqlite")
    assert loaded("dev.sqlite") != script.expected
    assert loaded("prod.sqlite") == loaded("other.sqlite") == script.expected
    # what does not fit is refused, and the results are there
    script.file.write_text(script.file.read_text().replace('keys=["word"]', 'keys=["count"]'))
    refused = script.type("--env", "prod")
    assert (refused.code, refused.out) == (4, "")
    assert "table words does not fit: the keys are word" in refused.err
    assert "nothing ran" in refused.err


def test_table_is_loaded_into_a_server_and_into_parquet(
    script: Script, postgresql_server: postgresql.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no password is shown, whatever is asked for."""
    script.file.write_text(
        TEXT.replace('.table("word", "count")', '.table("word", "count").load("words", keys=["word"])')
    )
    monkeypatch.chdir(script.file.parent)
    address = postgresql_server.make_database()
    name = address.replace(f":{quote(postgresql.PASSWORD, safe='')}", "")
    for _ in range(2):
        ended = script.succeed("--database", address)
        assert f"words: 3 rows loaded into {name}, which has 3" in ended.err.splitlines()
        assert "words: 3 rows loaded into x.parquet, which has 3" in script.succeed("--database", "x.parquet").err
    assert dict(postgresql.rows(address, "SELECT word, count FROM words")) == script.expected
    with contextlib.closing(duckdb.connect()) as connection:
        assert dict(connection.execute("SELECT word, count FROM 'x.parquet'").fetchall()) == script.expected
    refused = script.type("--database", f"{address}x")
    assert (refused.code, refused.out) == (2, "")
    assert f"error: cannot load into {name}x: " in refused.err
    assert "nothing ran" in refused.err
    for ended in (script.type("--database", f"{address}?x=y"), script.type("--database", address.replace("%", "/"))):
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("error: --database postgresql://")
        assert "ran" not in ended.err
        refused = Ended(ended.code, ended.out, refused.err + ended.err)
    assert not [part for part in ("cr@t", "cr%40t", "cr/40t", "rd%3F", "rd/3F") if part in refused.err]


def dated(script: Script) -> Script:
    """Make the recipe one of a month, with files of some."""
    text = TEXT.replace("Files, Pattern,", "Files, Month, Pattern,").replace(
        'Pattern("*.txt", "Texts.")], ', 'Pattern("t-{date}*.txt")], month: Month, '
    )
    script.file.write_text(text)
    for path in script.texts.iterdir():
        path.unlink()
    for month in ("01", "02", "04"):
        (script.texts / f"t-2018-{month}.txt").write_text(f"one m{month}\n")
    return script


def test_each_date_has_data_and_results_of_its_own(script: Script) -> None:
    dated(script)
    assert script.succeed("--date", "2018-02").counts == {"one": 1, "m02": 1}
    assert script.succeed("--date", "2018-04").counts == {"one": 1, "m04": 1}
    assert {key.split("/")[5] for key in keys()} == {"2018-02", "2018-04"}
    # what has come since does not change what a month gives
    (script.texts / "t-2018-05.txt").write_text("more\n")
    again = script.succeed("--date", "2018-02")
    assert (again.counts, again.ran) == ({"one": 1, "m02": 1}, (0, 0, 0, 0))
    refused = script.type("--date", "2018-03")
    assert (refused.code, refused.out) == (2, "")
    assert "no files t-2018-03*.txt" in refused.err


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_backfill_runs_the_gaps_and_says_which(script: Script, order: str) -> None:
    dated(script)
    script.succeed("--date", "2018-02")
    span = ("--start", "2018-01", "--stop", "2018-05", "--backfill", order)
    gaps = ["2018-01", "2018-04"] if order == "oldest" else ["2018-04", "2018-01"]
    before = keys()
    planned = script.succeed(*span, "-n")
    assert f"gaps: {', '.join(gaps)}" in planned.err.splitlines()
    assert {row["date"] for row in json.loads(planned.out)} == set(gaps)
    assert keys() == before
    ended = script.succeed(*span)
    assert "2018-03: no files" in ended.err.splitlines()
    assert f"gaps: {', '.join(gaps)}" in ended.err.splitlines()
    rows = [(row["date"], row["word"]) for row in json.loads(ended.out)]
    assert rows == [(gap, word) for gap in gaps for word in (f"m{gap[-2:]}", "one")]
    assert "gaps: none" in script.succeed(*span).err.splitlines()


def test_date_has_to_be_said(script: Script) -> None:
    dated(script)
    refused = script.type()
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: give either --date, or --start and --stop")


def test_recipe_of_the_readme_runs_as_it_is_written(script: Script, tmp_path: Path) -> None:
    """Its commands too, on files with what they count in the fifth column."""
    text = (REPOSITORY / "recipes" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 32
    script.file = tmp_path / "longest_trips.py"
    script.file.write_text(code)
    (tmp_path / "taxi").mkdir()
    for month in range(3):
        lines = [f"a,b,c,d,{month}.{number}5,e\n" for number in range(4)]
        (tmp_path / "taxi" / f"{month}.csv").write_text("".join(["one,two,three,four,distance,five\n", *lines]))
    (commands,) = re.findall(r"```\n(python .*?)```", text, re.DOTALL)
    for line in commands.replace("-i cluster.toml", f"--local {HOSTS}").splitlines():
        _, _, *arguments = line.partition("#")[0].split()
        argv = [sys.executable, script.file, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr
        if "--top" in arguments:
            assert done.stdout.split() == ["distance", "2.35", "2.25", "2.15"], done.stderr


def test_python_of_the_main_readme_runs_as_it_is_written(script: Script, tmp_path: Path) -> None:
    """All blocks in one file, one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    look = 'with Cluster() as cluster:\n    print(cluster.get("sm://counted/x"))\n'
    (tmp_path / "readme.py").write_text("\n".join([*blocks, look]))
    argv: list[str | Path] = [sys.executable, tmp_path / "readme.py"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert (first, rest[-1]) == (r"1 0 b'a\nb\n'", r"b'a,1\nb,1\n'")
