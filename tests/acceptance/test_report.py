"""`sshmap report`: a page about real runs, read by a real browser, in which nothing that hosts say becomes more than text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sshmap.client.figures import MOST_BARS
from sshmap.client.report_page import write_page
from sshmap.model import AttemptEnd
from tests.acceptance.browser import Browser, Seen, browser
from tests.acceptance.conftest import CommandLine, ended
from tests.reports import HOSTILE, attempt, attempts, report_of, run_of

__all__ = ["browser"]

KEYS = 12
#: fails on one key in four
SOME = 'case $filename in *4|*8|*9) echo "no good: $filename" >&2; exit 3;; esac; cat'


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Three hosts with two runs: one of which some tasks have failed, and one that made all outputs."""
    with ended(CommandLine(tmp_path_factory.mktemp("report"))) as typed:
        typed.environment["SSHMAP_LOCAL"] = "3"
        files = typed.folder / "files"
        files.mkdir()
        for number in range(KEYS):
            (files / f"k{number}").write_text(f"content {number}\n")
        typed.succeed("cp", "-r", "files", "sm://b/in")
        assert typed("map", "--retries", "1", "sm://b/in/", "sm://b/out/", SOME).code == 1
        typed.succeed("map", "sm://b/in/", "sm://b/all/", "sort")
        yield typed


def faultless(seen: Seen) -> Seen:
    """Look that the page's script came to its end without a complaint."""
    assert (seen.console, seen.body.get("data-error"), seen.body.get("data-ready")) == ([], None, "yes")
    return seen


def test_page_about_several_runs_shows_each_attempt(hosts: CommandLine, browser: Browser) -> None:
    done = hosts.succeed("report", "1", "2", "-o", "both.html")
    assert (done.out, done.err) == (b"", "written to both.html\n")
    seen = faultless(browser.look(hosts.folder / "both.html"))
    # three tasks were tried twice
    assert seen.numbers("data-bars") == [KEYS + 3, KEYS]
    assert seen.numbers("data-drawn") == [KEYS + 3, KEYS]
    assert [attributes["id"] for attributes in seen.all("section") if attributes.get("id")] == ["run-1", "run-2"]
    for said in (SOME, "--retries 1", "sm://b/in/", "sm://b/all/", "no good: k4", "exit 3", "local2", "sshmap 0."):
        assert said in seen.text
    assert len(seen.all("details")) == 6


def test_page_is_about_the_last_run_in_report_html_unless_told_otherwise(hosts: CommandLine) -> None:
    hosts.succeed("report")
    page = (hosts.folder / "report.html").read_bytes()
    assert b"sm://b/all/" in page
    assert SOME.split(maxsplit=1)[0].encode() not in page.partition(b'id="data"')[2].partition(b"</script>")[0]
    written = hosts.succeed("report", "last", "-o", "-").out
    assert written.startswith(b"<!DOCTYPE html>")
    assert b"sm://b/all/" in written


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["report", "-o", "files"], 2, "cannot write files"), (["report", "-o", "files/k1/page.html"], 2, "cannot write files/k1/page.html"),
        (["report", "-o", "none/page.html"], 2, "there is no directory none"),
        (["report", "7000"], 1, "no run '7000' is known"),
    ],
)  # fmt: skip
def test_report_that_cannot_be_made_is_one_clear_error(
    hosts: CommandLine, arguments: list[str], code: int, said: str
) -> None:
    done = hosts(*arguments)
    assert (done.code, done.err.count("error: "), said in done.err) == (code, 1, True), done.err
    assert not list(hosts.folder.glob("**/.sshmap-*"))


def test_page_without_a_host_that_does_not_answer_says_so(hosts: CommandLine, browser: Browser) -> None:
    roots = hosts.state / "sshmap" / "local" / "3"
    known = [f'[[hosts]]\nname = "local{n}"\nconnect = "local"\nroot = "{roots}/local{n}"\n' for n in range(2)]
    gone = '[[hosts]]\nname = "local2"\naddress = "127.0.0.1"\nport = 1\n'
    (hosts.folder / "gone.toml").write_text("".join([*known, gone]))
    done = hosts("-i", "gone.toml", "report", "last", "-o", "gone.html", SSHMAP_LOCAL="")
    assert (done.code, "local2" in done.err) == (3, True), done.err
    seen = faultless(browser.look(hosts.folder / "gone.html"))
    assert "local2 did not tell what it knows" in seen.text
    assert 0 < seen.numbers("data-bars")[0] < KEYS


def test_hostile_names_and_words_of_a_real_run_are_shown_and_not_run(hosts: CommandLine, browser: Browser) -> None:
    key = f"sm://odd/in/{HOSTILE}"
    hosts.succeed("cp", "-", key, stdin=b"x")
    assert hosts("map", "sm://odd/in/", "sm://odd/out/", f"echo '{HOSTILE}' >&2; exit 1").code == 1
    hosts.succeed("report", "last", "-o", "odd.html")
    hosts.succeed("rm", "-r", "sm://odd/")
    assert_harmless(browser.look(hosts.folder / "odd.html"), shown=key)


def test_hostile_host_names_are_shown_and_not_run(browser: Browser) -> None:
    row = attempt(
        0, at=0, ran=1, key=f"sm://b/{HOSTILE}\u202e", outcome=AttemptEnd.FAILED, stderr=HOSTILE.encode() + b"\x1b"
    )
    seen = browser.look_at(write_page(report_of({HOSTILE: [row]}, command=HOSTILE)))
    assert_harmless(seen, shown=f"sm://b/{HOSTILE}\\u202e")
    assert f"{HOSTILE}\\u001b" in seen.text


def assert_harmless(seen: Seen, *, shown: str) -> None:
    faultless(seen)
    assert (seen.all("img"), len(seen.all("script")), seen.body.get("data-hit")) == ([], 2, None)
    assert seen.text.count(shown) >= 2


def test_markup_that_came_into_the_page_all_the_same_would_not_run(browser: Browser) -> None:
    page = write_page(report_of({"h0": attempts(3)}))
    hit = "<img src=x onerror=\"document.body.dataset.hit='yes'\"><script>document.body.dataset.hit='yes'</script>"
    seen = browser.look_at(page.replace("</body>", f"{hit}</body>"))
    assert (len(seen.all("img")), seen.body.get("data-hit"), seen.body.get("data-ready")) == (1, None, "yes")
    assert any("Content Security Policy" in line for line in seen.console)


@pytest.mark.parametrize("count", [0, 1, MOST_BARS])
def test_page_is_drawn_for_any_number_of_tasks(browser: Browser, count: int) -> None:
    rows = {f"h{host}": attempts(max(count // 4, min(count, 1)) if host < count else 0, 4) for host in range(4)}
    seen = faultless(browser.look_at(write_page(report_of(rows))))
    assert seen.numbers("data-bars") == ([count] if count else [])
    assert seen.numbers("data-drawn") == ([count] if count else [])
    assert ("No command of it was begun" in seen.text) == (not count)


def test_page_that_draws_a_part_of_the_attempts_says_so(browser: Browser) -> None:
    rows = {"h0": attempts(1000)}
    page = write_page(msgspec.structs.replace(report_of(rows), runs=[run_of(rows, most_bars=300)]))
    seen = faultless(browser.look_at(page))
    assert seen.numbers("data-bars") == [250]
    assert "250 of 1\u2009000 attempts are drawn" in seen.text


#: sends what a mouse would, once the page is laid out; places on the timeline are shares of its width
MOUSE = """
setTimeout(() => {
const box = document.querySelector(".workers"), place = box.getBoundingClientRect();
const send = (kind, x, y) => box.dispatchEvent(new MouseEvent(kind, {clientX: place.left + x, clientY: place.top + y, bubbles: true}));
const at = share => 150 + share * (box.clientWidth - 164);
%s
}, 500);
"""


def test_pointing_at_a_bar_names_its_key_and_dragging_looks_closer(browser: Browser) -> None:
    page = write_page(report_of({"h0": attempts(400)}))
    # 200 bars of a second for each worker, a second apart
    pointed = browser.look_at(page, MOUSE % "send('mousemove', at(100.5 / 399), 30);")
    assert "sm://b/in/k101\ndone, 1.00 s\nfrom 1m40s, h0 worker 1" in pointed.text
    between = browser.look_at(page, MOUSE % "send('mousemove', at(101.5 / 399), 30);")
    assert "k101\n" not in between.text
    drag = "send('mousedown', at(0.5), 9); send('mousemove', at(0.6), 9); send('mouseup', at(0.6), 9);"
    dragged = browser.look_at(page, MOUSE % drag)
    (drawn,) = dragged.numbers("data-drawn")
    assert 38 <= drawn <= 44
    assert dragged.numbers("data-bars") == [400]


def test_page_follows_the_colours_of_the_system(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(write_page(report_of({"h0": attempts(3)})))
    faultless(browser.look(page, "--blink-settings=preferredColorScheme=0"))
