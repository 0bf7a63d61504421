"""Raw inputs that are fetched, keys of another environment that are read, temporary keys, several tables, notices, pictures."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.listing import Placed
from sshmap.errors import CommandsFailed, NotCopied, SshmapError, UsageError
from sshmap.recipe import Data, Files, Recipe, Table, fetching, recipe
from sshmap.recipe.flow import Place
from tests.servers import Page, Web, serving

HOSTS = 2


@pytest.fixture
def cluster(local_state: Path) -> Iterator[Cluster]:
    """The built-in local cluster."""
    with Cluster(local=HOSTS) as opened:
        yield opened


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(fetching, "_PAUSE", 0.001)
    server = Web()
    with serving(server):
        yield server


def contents(cluster: Cluster, prefix: str) -> dict[str, bytes]:
    """Return the keys below a prefix, by the rest of their names."""
    rows = [row for row in cluster.ls(prefix, recursive=True) if isinstance(row, Placed)]
    return {row.name.removeprefix(prefix): cluster.get(row) for row in rows}


def recipe_of(urls: object) -> Recipe:
    """Return a recipe that counts the lines of what some addresses have."""

    @recipe
    def lines(pages: Files) -> Table:
        """Count lines."""
        fetched = pages.or_fetched(urls)  # type: ignore[arg-type]
        return fetched.map("counted", "echo $filename $(wc -l)").table("name", "lines")

    return lines


def run(lines: Recipe, cluster: Cluster, **how: object) -> dict[str, int]:
    """Run it, and return the number of lines by name."""
    return {str(row["name"]): int(str(row["lines"])) for row in lines.run(cluster, **how)}  # type: ignore[arg-type]


HOME = "sm://dev/lines/data/"


def test_raw_inputs_are_fetched_once_and_kept_with_where_they_come_from(cluster: Cluster, web: Web) -> None:
    web.pages |= {
        "a.txt": Page(content=b"1\n2\n", etag='"1"'),
        "b.txt": Page(content=b"1\n", modified="Sat, 01 Dec 2018 10:00:00 GMT"),
    }
    lines = recipe_of([web.url("a.txt"), web.url("b.txt").replace("127.0.0.1", "anna:secret@127.0.0.1")])
    for _ in range(2):
        assert run(lines, cluster) == {"a.txt": 2, "b.txt": 1}
    assert sorted(web.asked) == [("/a.txt", 200), ("/b.txt", 200)]
    notes = {name: json.loads(content) for name, content in contents(cluster, f"{HOME}.recipe/origins/pages/").items()}
    assert (notes["a.txt"]["etag"], notes["a.txt"]["size"], notes["b.txt"]["modified"][:3]) == ('"1"', 4, "Sat")
    assert notes["b.txt"]["url"] == web.url("b.txt")
    assert notes["a.txt"]["fetched"].startswith("20")
    (row,) = cluster.where(f"{HOME}pages/a.txt")
    assert notes["a.txt"]["digest"] == row.digest.hex()


def test_only_what_has_changed_is_fetched_again_when_told(cluster: Cluster, web: Web) -> None:
    web.pages |= {
        "a.txt": Page(content=b"1\n", etag='"1"'),
        "b.txt": Page(content=b"1\n", modified="yesterday"),
        "c.txt": Page(content=b"1\n"),
    }
    lines = recipe_of([web.url(name) for name in ("a.txt", "b.txt", "c.txt")])
    run(lines, cluster)
    web.pages["a.txt"] = Page(content=b"1\n2\n", etag='"2"')
    web.asked.clear()
    assert run(lines, cluster) == {"a.txt": 1, "b.txt": 1, "c.txt": 1}
    assert web.asked == []
    assert run(lines, cluster, refetch=True) == {"a.txt": 2, "b.txt": 1, "c.txt": 1}
    assert sorted(web.asked) == [("/a.txt", 200), ("/b.txt", 304), ("/c.txt", 200)]


def test_list_of_addresses_that_has_changed_takes_along_what_depends_on_it(cluster: Cluster, web: Web) -> None:
    web.pages |= {name: Page(content=b"1\n" * number) for number, name in enumerate(("v0", "v1/a", "v2/a", "b"))}
    assert run(recipe_of([web.url("v1/a"), web.url("b")]), cluster) == {"a": 1, "b": 3}
    # the same name with another address is another input
    assert run(recipe_of({"a": web.url("v2/a")}), cluster) == {"a": 2}
    assert set(contents(cluster, f"{HOME}.recipe/origins/pages/")) == {"a"}


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page(status=404), "404 Not Found"), (Page(status=500), "500 Internal Server Error"),
        (Page(content=b"cut", size=1000), "peer closed connection"), (Page(status=302, content=b"ftp://127.0.0.1/x"), "ftp://"),
    ],
    ids=["missing", "broken", "cut", "elsewhere"],
)  # fmt: skip
def test_what_cannot_be_fetched_is_named_and_the_rest_is_there(
    cluster: Cluster, web: Web, page: Page, said: str
) -> None:
    web.pages |= {"a.txt": page, "b.txt": Page(content=b"1\n")}
    lines = recipe_of([web.url("a.txt"), web.url("b.txt")])
    with pytest.raises(NotCopied, match=r"cannot fetch http://127.0.0.1:\d+/a.txt") as error:
        run(lines, cluster)
    assert said in str(error.value)
    assert set(contents(cluster, f"{HOME}pages/")) == {"b.txt"}
    assert not contents(cluster, f"{HOME}counted/")
    web.pages["a.txt"] = Page(content=b"1\n2\n", busy=2)
    web.asked.clear()
    assert run(lines, cluster) == {"a.txt": 2, "b.txt": 1}
    assert [status for _, status in web.asked] == [503, 503, 200]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://[::1/x", "no address"), (f"http://127.0.0.1/{'a' * 300}", "no name"), ("http://a..b/x", "cannot fetch http://a..b/x"),
        ("http://xn--/x", "cannot fetch http://xn--/x"),
    ],
    ids=["brackets", "long", "dots", "punycode"],
)  # fmt: skip
def test_odd_addresses_are_named(cluster: Cluster, url: str, said: str) -> None:
    with pytest.raises(SshmapError, match=said):
        run(recipe_of(["http://nowhere.invalid/x"]), cluster, pages=url)


def test_proxy_that_is_none_is_named(cluster: Cluster, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://127.0.0.1")
    with pytest.raises(UsageError, match="cannot fetch anything: Unknown scheme for proxy"):
        run(recipe_of([web.url("a")]), cluster)


@pytest.mark.parametrize("status", [204, 206])
def test_answer_without_the_whole_content_is_no_raw_input(cluster: Cluster, web: Web, status: int) -> None:
    web.pages["a"] = Page(status=status)
    with pytest.raises(NotCopied, match=f"{status} "):
        run(recipe_of([web.url("a")]), cluster)
    assert not contents(cluster, f"{HOME}pages/")


def test_version_whose_name_cannot_be_sent_back_is_fetched_again(cluster: Cluster, web: Web) -> None:
    web.pages["a"] = Page(content=b"1\n", etag='"é"')
    lines = recipe_of([web.url("a")])
    run(lines, cluster)
    assert run(lines, cluster, refetch=True) == {"a": 1}
    assert web.asked == [("/a", 200), ("/a", 200)]


def test_server_is_not_asked_for_changes_of_what_is_not_what_it_sent(cluster: Cluster, web: Web) -> None:
    """As after a kill between the key and its note."""
    web.pages["a"] = Page(content=b"1\n", etag='"1"')
    lines = recipe_of([web.url("a")])
    run(lines, cluster)
    cluster.put(b"1\n2\n", f"{HOME}pages/a", replace=True)
    assert run(lines, cluster, refetch=True) == {"a": 1}
    assert web.asked == [("/a", 200), ("/a", 200)]


def test_empty_raw_input_was_fetched(cluster: Cluster, web: Web, tmp_path: Path) -> None:
    web.pages["t"] = Page()
    done = type_script(tmp_path, web.url("t"), script=CHAIN)
    assert "texts: t: fetched" in done.stderr


def test_server_that_says_nothing_is_not_waited_for_once_it_is_stopped(cluster: Cluster, web: Web) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    said = threading.Event()
    web.pages |= {"a": Page(content=b"1\n"), "b": Page(content=b"1\n", after=said)}
    place = Place(environment="dev", recipe="lines", dataset="data")
    raw = fetching.RawInputs(cluster, place, "pages", {name: web.url(name) for name in "ab"}, again=False)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        raw.send(raw.compare(), stop, lambda _: None)
    assert time.monotonic() - began < 10
    said.set()
    # it had to be fetched by then
    assert set(contents(cluster, f"{HOME}pages/")) == {"a"}


def test_redirect_is_followed(cluster: Cluster, web: Web) -> None:
    web.pages |= {"a": Page(status=302, content=web.url("elsewhere").encode()), "elsewhere": Page(content=b"1\n")}
    assert run(recipe_of([web.url("a")]), cluster) == {"a": 1}


@pytest.mark.parametrize(
    "urls", [["ftp://h/a"], ["http://h/"], ["http://h/a", "http://i/a"], {"../a": "http://h/a"}, ["http://h/.hidden"]]
)
def test_addresses_without_a_name_of_their_own_are_refused(cluster: Cluster, urls: object) -> None:
    with pytest.raises(UsageError):
        run(recipe_of(urls), cluster)


def test_addresses_may_be_typed(cluster: Cluster, web: Web, tmp_path: Path) -> None:
    web.pages |= {"a": Page(content=b"1\n"), "b": Page(content=b"")}
    lines = recipe_of(["http://nowhere.invalid/x"])
    assert run(lines, cluster, pages=f"{web.url('a')} {web.url('b')}") == {"a": 1, "b": 0}
    # and so may files
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/c").write_text("1\n")
    assert run(lines, cluster, pages=tmp_path / "texts") == {"c": 1}


def in_steps(temporary: bool = True, reads: str = "", last: str = "sort -n | tail -n 1") -> Recipe:
    """Return a recipe of four steps, of which the middle ones are temporary."""

    @recipe
    def steps(texts: Files) -> tuple[Table, Table]:
        """Find largest numbers."""
        first = texts.map("first", "cat", temporary=temporary, reads=reads)
        second = first.map("second", "tr a-z A-Z", temporary=temporary)
        return second.map("third", last).table("number"), second.map("fourth", "wc -l").table("lines")

    return steps


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(4):
        (folder / f"t{number}").write_text("".join(f"{n}\n" for n in range(number + 2)))
    return folder


def ran(cluster: Cluster) -> dict[str, int]:
    """Return how many tasks have run over the data that lies there, by step."""
    found: dict[str, int] = {}
    datasets = {row.name.split("/")[4] for row in cluster.where("sm://")}
    for one in cluster.jobs():
        if one.outdir.split("/")[4] not in datasets:
            continue
        step = one.outdir.rstrip("/").rsplit("/", 1)[1]
        found[step] = found.get(step, 0) + sum(1 for _ in cluster.attempts(one.run))
    return found


def folders(cluster: Cluster, env: str = "dev") -> set[str]:
    """Return which directories of a recipe hold keys."""
    return {row.name.split("/")[5] for row in cluster.where(f"sm://{env}/steps/")}


NUMBERS = [{"table": "third", "number": n} for n in range(1, 5)] + [
    {"table": "fourth", "lines": n} for n in range(2, 6)
]


def test_temporary_keys_go_when_all_is_made_and_nothing_runs_again(cluster: Cluster, texts: Path) -> None:
    for _ in range(3):
        assert in_steps().run(cluster, texts=texts) == NUMBERS
        assert folders(cluster) == {"texts", "third", "fourth", ".recipe"}
    assert ran(cluster) == {"first": 4, "second": 4, "third": 4, "fourth": 4}


def test_temporary_keys_are_made_again_for_what_has_changed_alone(cluster: Cluster, texts: Path) -> None:
    in_steps().run(cluster, texts=texts)
    (texts / "t0").write_text("7\n8\n9\n")
    rows = in_steps().run(cluster, texts=texts)
    assert [row["number"] for row in rows if row["table"] == "third"] == [9, 2, 3, 4]
    # it is made again as a whole, what is made from it is not
    assert ran(cluster) == {"first": 8, "second": 8, "third": 5, "fourth": 5}
    assert folders(cluster) == {"texts", "third", "fourth", ".recipe"}


def test_temporary_keys_are_made_again_for_a_step_that_has_changed_or_lost_keys(cluster: Cluster, texts: Path) -> None:
    in_steps().run(cluster, texts=texts)
    rows = in_steps(last="sort -n | head -n 1").run(cluster, texts=texts)
    assert [row["number"] for row in rows if row["table"] == "third"] == [0, 0, 0, 0]
    assert ran(cluster) == {"first": 8, "second": 8, "third": 8, "fourth": 4}
    (lost,) = cluster.where(
        next(row.name for row in cluster.where("sm://dev/steps/") if row.name.endswith("fourth/t1"))
    )
    cluster.rm(lost.name)
    assert len(in_steps(last="sort -n | head -n 1").run(cluster, texts=texts)) == 8
    assert ran(cluster) == {"first": 12, "second": 12, "third": 8, "fourth": 5}
    assert folders(cluster) == {"texts", "third", "fourth", ".recipe"}


def test_temporary_keys_that_are_asked_for_are_made(cluster: Cluster, texts: Path, tmp_path: Path) -> None:
    type_script(tmp_path, texts)
    planned = json.loads(type_script(tmp_path, texts, "-n", "--json", "--until", "middle").stdout)
    assert [(row["step"], row["run"]) for row in planned] == [("middle", 4)]
    assert "middle: 4 ran" in type_script(tmp_path, texts, "--until", "middle").stderr
    assert len([row for row in cluster.where("sm://dev/lengths/") if "/middle/" in row.name]) == 4
    assert "4 temporary keys deleted" in type_script(tmp_path, texts).stderr


def test_temporary_keys_of_a_file_that_is_gone(cluster: Cluster, texts: Path) -> None:
    in_steps().run(cluster, texts=texts)
    (texts / "t3").unlink()
    assert [row["number"] for row in in_steps().run(cluster, texts=texts) if row["table"] == "third"] == [1, 2, 3]


def test_kill_between_the_note_and_the_deletion_leaves_nothing(
    cluster: Cluster, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Cluster.rm

    def killed(self: Cluster, prefix: str, *, recursive: bool = False) -> object:
        if recursive:
            raise KeyboardInterrupt
        return remove(self, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(Cluster, "rm", killed)
        with pytest.raises(KeyboardInterrupt):
            in_steps().run(cluster, texts=texts)
    assert "first" in folders(cluster)
    assert in_steps().run(cluster, texts=texts) == NUMBERS
    assert folders(cluster) == {"texts", "third", "fourth", ".recipe"}
    assert ran(cluster) == {"first": 4, "second": 4, "third": 4, "fourth": 4}


def test_nothing_can_need_the_keys_of_a_temporary_step() -> None:
    @recipe
    def odd(texts: Files) -> Data:
        """Odd."""
        gone = texts.map("gone", "cat", temporary=True)
        return texts.map("other", "cat", shipped=[gone])

    @recipe
    def shown(texts: Files) -> Table:
        """Shown."""
        return texts.map("gone", "cat", temporary=True).table("x")

    for one in (odd, shown):
        with pytest.raises(UsageError, match="temporary"):
            one.run(Cluster(local=HOSTS), texts="/tmp")  # nothing is read


def test_dev_reads_what_prod_has_and_writes_nothing_there(cluster: Cluster, texts: Path) -> None:
    in_steps(temporary=False).run(cluster, texts=texts, env="prod", dataset="all")
    before = {row.name: row.digest for row in cluster.where("sm://prod/")}
    (texts / "t0").unlink()
    # without any files on this machine
    assert in_steps(reads="prod").run(cluster, dataset="all") == NUMBERS
    assert folders(cluster) == {"third", "fourth", ".recipe"}
    assert {row.name: row.digest for row in cluster.where("sm://prod/")} == before
    cluster.rm("sm://prod/steps/all/texts/t1")
    rows = in_steps(reads="prod").run(cluster, dataset="all")
    assert [row["number"] for row in rows if row["table"] == "third"] == [1, 3, 4]
    with pytest.raises(UsageError, match="--dataset is missing"):
        in_steps(reads="prod").run(cluster)
    with pytest.raises(UsageError, match="no name for an environment"):
        in_steps(reads="Prod/..").run(cluster, dataset="all")


def test_notices_are_given_once_for_the_same_rows(cluster: Cluster, texts: Path) -> None:
    told: list[int] = []

    @recipe
    def counted(texts: Files, fail: bool = False) -> Table:
        """Count."""

        def tell(rows: list[dict[str, object]]) -> None:
            if fail:
                raise OSError("no route")
            told.append(len(rows))

        return texts.map("counted", "wc -l").table("lines").notify("tell", tell)

    with pytest.raises(CommandsFailed, match="tell of recipe counted: OSError: no route"):
        counted.run(cluster, texts=texts, fail=True)
    for _ in range(2):
        counted.run(cluster, texts=texts)
    (texts / "t9").write_text("x\n")
    counted.run(cluster, texts=texts)
    assert told == [4, 5]


SCRIPT = '''
from typing import Annotated
from sshmap.recipe import Files, Pattern, Table, recipe

@recipe
def lengths(texts: Annotated[Files, Pattern("t*", "Texts")]) -> tuple[Table, Table]:
    """Lengths."""
    middle = texts.map("middle", "cat", temporary=True)
    lines = middle.map("lines", "echo $filename $(wc -l)").table("name", "lines").bars("name", "lines")
    return lines, middle.map("bytes", "echo $filename $(wc -c)").table("name", "bytes").bars("name", "bytes")

lengths.main()
'''


def type_script(
    folder: Path, texts: Path | str, *options: object, script: str = SCRIPT
) -> subprocess.CompletedProcess[str]:
    (folder / "lengths.py").write_text(script)
    argv = [sys.executable, folder / "lengths.py", "--local", HOSTS, "--texts", texts, *options]
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=60, check=False)


def test_picture_that_nobody_can_draw_is_refused_before_anything_runs(
    cluster: Cluster, texts: Path, tmp_path: Path
) -> None:
    done = type_script(tmp_path, texts, "--until", "middle", "--plot", tmp_path / "bars.png")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: --plot: this recipe draws nothing")
    assert not cluster.count("sm://").keys


def test_content_is_kept_as_it_came_also_if_it_is_packed(cluster: Cluster, web: Web) -> None:
    packed = gzip.compress(b"1\n2\n")
    web.pages["a.gz"] = Page(content=packed, encoding="gzip")
    run(recipe_of([web.url("a.gz")]), cluster)
    assert contents(cluster, f"{HOME}pages/") == {"a.gz": packed}


def test_several_tables_are_shown_one_after_the_other_and_drawn(cluster: Cluster, texts: Path, tmp_path: Path) -> None:
    done = type_script(tmp_path, texts, "--plot", tmp_path / "bars.png")
    assert done.returncode == 0, done.stderr
    blocks = done.stdout.split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == [
        "lines:",
        "t0 ████████████████████████",
        "bytes:",
        "t0 ████████████████████████",
    ]
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads(type_script(tmp_path, texts, "--json").stdout)
    assert rows[0] == {"table": "lines", "name": "t0", "lines": 2}
    assert rows[-1] == {"table": "bytes", "name": "t3", "bytes": 10}


@pytest.mark.parametrize("name", ["bars.nothing", "nowhere/bars.png"])
def test_picture_that_cannot_be_written_is_named(cluster: Cluster, texts: Path, tmp_path: Path, name: str) -> None:
    done = type_script(tmp_path, texts, "--plot", tmp_path / name)
    assert done.returncode == 2
    assert f"error: cannot draw into {tmp_path / name}" in done.stderr
    assert "lines:" in done.stdout


def test_dry_run_says_what_temporary_keys_are_made_for(cluster: Cluster, texts: Path, tmp_path: Path) -> None:
    def planned() -> dict[str, tuple[int, int]]:
        rows = json.loads(type_script(tmp_path, texts, "-n", "--json").stdout)
        return {row["step"]: (row["keep"], row["run"]) for row in rows}

    assert planned()["middle"] == (0, 4)
    type_script(tmp_path, texts)
    assert planned() == {"middle": (4, 0), "lines": (4, 0), "bytes": (4, 0)}
    (texts / "t9").write_text("new\n")
    assert planned()["middle"] == (0, 5)
    done = type_script(tmp_path, texts, "-q", "--json")
    assert len(json.loads(done.stdout)) == 10
    assert planned() == {"middle": (5, 0), "lines": (5, 0), "bytes": (5, 0)}


def test_error_of_a_notice_may_be_one_of_ours(cluster: Cluster, texts: Path) -> None:
    @recipe
    def counted(texts: Files) -> Table:
        """Count."""

        def tell(_: object) -> None:
            raise SshmapError("said so")

        return texts.map("counted", "wc -l").table("lines").notify("tell", tell)

    with pytest.raises(SshmapError, match="said so"):
        counted.run(cluster, texts=texts)


#: one step that is made from a temporary one, and another one beside that
CHAIN = '''
from typing import Annotated
from sshmap.recipe import Files, Pattern, Table, recipe

@recipe
def lengths(texts: Annotated[Files, Pattern("t*", "Texts")]) -> Table:
    """Lengths."""
    middle = texts.map("middle", "cat", temporary=True)
    texts.map("beside", "cat")
    return middle.map("lines", "wc -l").table("lines")

lengths.main()
'''
SHORT = CHAIN.replace('"cat", temporary', '"tail -n 1", temporary')


def lines_of(folder: Path, texts: Path, *options: object, script: str = CHAIN) -> list[int]:
    done = type_script(folder, texts, "-q", "--json", *options, script=script)
    assert done.returncode == 0, done.stderr
    return [row["lines"] for row in json.loads(done.stdout)]


def counts_of(folder: Path, texts: Path, *options: object, script: str = CHAIN) -> dict[str, tuple[int, int]]:
    rows = json.loads(type_script(folder, texts, "-n", "--json", *options, script=script).stdout)
    return {row["step"]: (row["keep"], row["run"]) for row in rows}


@pytest.mark.parametrize(
    "script", [SHORT, SHORT.replace("temporary=True", "temporary=False")], ids=["temporary", "not any more"]
)
def test_from_a_step_makes_its_source_again_whose_keys_were_deleted_and_that_has_changed(
    cluster: Cluster, texts: Path, tmp_path: Path, script: str
) -> None:
    assert lines_of(tmp_path, texts) == [2, 3, 4, 5]
    assert counts_of(tmp_path, texts, "--from", "lines", script=script) == {"middle": (0, 4), "lines": (0, 4)}
    assert lines_of(tmp_path, texts, "--from", "lines", script=script) == [1, 1, 1, 1]
    assert lines_of(tmp_path, texts, script=script) == [1, 1, 1, 1]


def test_from_a_step_makes_its_source_again_whose_keys_were_deleted_and_whose_inputs_have_changed(
    cluster: Cluster, texts: Path, tmp_path: Path
) -> None:
    lines_of(tmp_path, texts)
    (texts / "t0").write_text("1\n")
    assert type_script(tmp_path, texts, "--until", "beside", script=CHAIN).returncode == 0
    assert lines_of(tmp_path, texts, "--from", "lines") == [1, 3, 4, 5]


def test_keys_that_a_temporary_step_made_before_it_was_changed_are_not_taken_for_those_of_now(
    cluster: Cluster, texts: Path, tmp_path: Path
) -> None:
    assert type_script(tmp_path, texts, "--until", "middle", script=CHAIN).returncode == 0
    # on what lies there
    assert lines_of(tmp_path, texts, "--from", "lines", script=SHORT) == [2, 3, 4, 5]
    assert lines_of(tmp_path, texts, script=SHORT) == [1, 1, 1, 1]


def test_dry_run_asks_about_the_keys_of_the_environment_that_is_read(
    cluster: Cluster, texts: Path, tmp_path: Path
) -> None:
    script = CHAIN.replace(", temporary=True", "")
    lines_of(tmp_path, texts, "--env", "prod", "--dataset", "all", script=script)
    reading = script.replace('"wc -l"', '"wc -l", reads="prod"')
    planned = counts_of(tmp_path, texts, "--dataset", "all", "--from", "lines", script=reading)
    assert planned == {"lines": (0, 4)}
    lines_of(tmp_path, texts, "--dataset", "all", "--from", "lines", script=reading)
    planned = counts_of(tmp_path, texts, "--dataset", "all", "--from", "lines", script=reading)
    assert planned == {"lines": (4, 0)}


def test_temporary_keys_of_another_environment_cannot_be_read(texts: Path, tmp_path: Path) -> None:
    done = type_script(tmp_path, texts, "-n", script=CHAIN.replace('"wc -l"', '"wc -l", reads="prod"'))
    assert "error: step lines reads middle of prod, which is temporary" in done.stderr


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("no"), StopIteration()], ids=["exit", "exit text", "stop"])
def test_notice_that_ends_the_process_has_failed(cluster: Cluster, texts: Path, error: BaseException) -> None:
    @recipe
    def counted(texts: Files) -> Table:
        """Count."""

        def tell(_: object) -> None:
            raise error

        return texts.map("counted", "wc -l").table("lines").notify("tell", tell)

    for _ in range(2):
        with pytest.raises(CommandsFailed, match=f"tell of recipe counted: {type(error).__name__}"):
            counted.run(cluster, texts=texts)


def test_what_is_no_table_cannot_be_shown(cluster: Cluster, texts: Path) -> None:
    @recipe  # type: ignore[arg-type]
    def counted(texts: Files) -> dict[str, Table]:
        """Count."""
        return {"lines": texts.map("counted", "wc -l").table("lines")}

    with pytest.raises(UsageError, match="recipe counted returns a dict, which cannot be shown"):
        counted.run(cluster, texts=texts)


def test_notices_and_tables_of_one_name_are_refused(cluster: Cluster, texts: Path) -> None:
    def recipe_with(*names: str, twice: bool = False) -> Recipe:
        @recipe
        def counted(texts: Files) -> tuple[Table, ...]:
            """Count."""
            counts = texts.map("counted", "wc -l")
            table = counts.table("lines")
            for name in names:
                table.notify(name, print)
            return (table, counts.table("rows")) if twice else (table,)

        return counted

    for one, said in (
        (recipe_with("mail", "mail"), "two notices called 'mail'"),
        (recipe_with("to/../bob"), "'to/../bob' is no name"),
        (recipe_with(twice=True), "two tables of step 'counted'"),
    ):
        with pytest.raises(UsageError, match=said):
            one.run(cluster, texts=texts)


TOLD = '''
import os
from typing import Annotated
from sshmap.recipe import Day, Files, Pattern, Table, recipe

@recipe
def lengths(texts: Annotated[Files, Pattern("t*", "Texts")], day: Day, fail: bool = False) -> Table:
    """Lengths."""
    def tell(rows: object) -> None:
        if fail:
            raise OSError("no route")
        print("told")
    return texts.map("lines", "wc -l").table("lines").notify("tell", tell)

lengths.main()
'''


def test_notice_of_new_rows_that_failed_is_a_gap_and_planned(cluster: Cluster, texts: Path, tmp_path: Path) -> None:
    def done(*options: str) -> str:
        return type_script(tmp_path, texts, *options, script=TOLD).stdout

    def planned() -> dict[str, int]:
        return {row["step"]: row["run"] for row in json.loads(done("-n", "--json", "--date", "2018-01-01"))}

    dates = ("--start", "2018-01-01", "--stop", "2018-01-02", "--backfill", "oldest")
    assert planned() == {"lines": 4, "tell": 1}
    assert "told" in done(*dates)
    assert "told" not in done(*dates)
    assert planned() == {"lines": 0, "tell": 0}
    (texts / "t0").write_text("1\n")
    assert done("--fail", *dates) == ""
    assert planned() == {"lines": 0, "tell": 1}
    assert "told" in done(*dates)
    # also when only something is gone
    (texts / "t0").unlink()
    assert planned() == {"lines": 0, "tell": 1}
    assert "told" in done(*dates)
    assert "told" not in done(*dates)


@pytest.mark.parametrize("odd", [b"\xff", b'{"rows":"\xff"}', b'{"x":' + b"[" * 100_000, b"null", b'{"rows":1}'])
def test_note_that_is_none_is_written_again(cluster: Cluster, texts: Path, odd: bytes) -> None:
    told: list[int] = []

    @recipe
    def counted(texts: Files) -> Table:
        """Count."""
        return texts.map("counted", "wc -l").table("lines").notify("tell", lambda rows: told.append(len(rows)))

    counted.run(cluster, texts=texts, dataset="d")
    cluster.put(odd, "sm://dev/counted/d/.recipe/told/tell", replace=True)
    for _ in range(2):
        counted.run(cluster, texts=texts, dataset="d")
    assert told == [4, 4]
