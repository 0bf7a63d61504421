"""What people see: folded failures, clean text, sizes and times."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.cli import printers
from sshmap.cli.escaping import clean, clean_json, clean_lines, escape
from sshmap.cli.printers import HumanPrinter, JsonPrinter, Printer, QuietPrinter, folded, human_size, human_time, masked
from sshmap.client.job_results import HostResult, JobResult, TaskFailure
from sshmap.client.listing import Folder, Placed
from sshmap.client.results import Transfer
from sshmap.errors import HostLost, NotCopied
from sshmap.model import Bucket, Ending


def failure(host: str, key: str, message: str = "KeyError: 'tip'") -> TaskFailure:
    return TaskFailure(host=host, key=key, attempt=2, kind="CommandsFailed", message=message, exit_code=1)


def test_equal_failures_are_folded_into_one_line() -> None:
    lines = folded([failure(f"h{number % 3 * 3 + 1}", f"in/{number}") for number in range(6)])
    assert len(lines) == 1
    assert "6 keys on h[1,4,7]: KeyError: 'tip'" in lines[0]
    assert "in/0" in lines[0]


def test_different_failures_stay_apart_in_their_order() -> None:
    lines = folded([failure("h1", "in/a", "one"), failure("h1", "in/b", "two"), failure("h2", "in/c", "one")])
    assert ["one" in lines[0], "two" in lines[1], len(lines)] == [True, True, 2]


def test_single_failure_names_key_host_and_attempt() -> None:
    (line,) = folded([failure("h1", "in/a")])
    assert all(word in line for word in ("in/a", "h1", "attempt 2", "KeyError: 'tip'"))


def test_no_failure_is_no_line() -> None:
    assert folded([]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"), ("a\rb", r"a\rb"), ("\x9b", r"\x9b"), ("\x00\x07", r"\x00\x07"), ("two\nlines", r"two\nlines"),
        ("\u202egnp.exe", r"\u202egnp.exe"), ("\u2066\u2069\u061c\u200f\u2028", r"\u2066\u2069\u061c\u200f\u2028"),
    ],
    ids=ascii,
)  # fmt: skip
def test_what_could_drive_a_terminal_is_made_visible(text: str, shown: str) -> None:
    assert (clean(text), escape(text)) == (shown, shown)


@pytest.mark.parametrize("text", ["plain", "日本 ü", "a tab\tbetween", "שלום", r"a\d"], ids=ascii)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert clean(text) == text


UNSAFE = {chr(code) for code in (*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))}  # fmt: skip
hostile = st.text(st.sampled_from([*sorted(UNSAFE), "a", "\\", "n", "x", "0", "u"]))


@given(hostile)
def test_clean_text_is_one_line_that_cannot_drive_a_terminal(text: str) -> None:
    assert not UNSAFE - {"\t"} & set(clean(text))
    assert not UNSAFE & set(escape(text))


@given(hostile, hostile)
def test_no_two_names_look_the_same(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)
    assert escape(one).encode().decode("unicode_escape") == one


@given(hostile)
def test_json_stays_the_same_value(text: str) -> None:
    shown = clean_json(msgspec.json.encode(text).decode())
    assert not UNSAFE & set(shown)
    assert msgspec.json.decode(shown) == text


def test_what_a_command_said_cannot_pass_for_a_line_of_ours() -> None:
    assert clean_lines("exit 1: Traceback\ndone: 9 ok\x1b[A") == "exit 1: Traceback\n    | done: 9 ok\\x1b[A"


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1550, "1.6 kB"), (31_200_000_000, "31.2 GB"), (2e18, "2000.0 PB")],
)
def test_size_has_a_decimal_unit(size: float, shown: str) -> None:
    assert human_size(size) == shown


@pytest.mark.parametrize(("size", "shown"), [(999.7, "1.0 kB"), (999_960, "1.0 MB"), (999_999_999, "1.0 GB")])
def test_size_is_rounded_before_its_unit_is_chosen(size: float, shown: str) -> None:
    assert human_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0s"), (5.25, "5.2s"), (72, "1m12s"), (119.6, "2m00s"), (3600, "1h00m00s"), (90_061, "25h01m01s")],
)
def test_time_is_short(seconds: float, shown: str) -> None:
    assert human_time(seconds) == shown


def test_time_is_rounded_before_its_unit_is_chosen() -> None:
    assert human_time(59.97) == "1m00s"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("cannot open /tmp/tmp.aB3/x", "cannot open /tmp/tmp.Zz9/y", True),
        ("/var/tmp/sshmap/h0/tmp/12/file: no", "/var/tmp/sshmap/h0/tmp/13/file: no", True),
        ("line 12: bad", "line 7: bad", True),
        ("object at 0x7f00aa", "object at 0x7f11bb", True),
        ("digest 0123456789abcdef", "digest fedcba9876543210", True),
        ("KeyError: 'tip'", "KeyError: 'fare'", False),
        ("/data/a: missing", "/data/b: missing", False),
        ("deadbeef feedface", "feedface deadbeef", False),
    ],
)
def test_what_differs_by_chance_is_masked(one: str, other: str, *, alike: bool) -> None:
    assert (masked(one) == masked(other)) == alike


def test_failures_that_differ_by_chance_are_folded_but_not_those_with_another_code() -> None:
    tasks = [failure(f"h{number}", f"in/{number}", f"/tmp/tmp.{number}: line {number}") for number in range(4)]
    other = msgspec.structs.replace(tasks[0], exit_code=2)
    lines = folded([*tasks, other])
    assert [line.startswith("error: 4 keys on h[0-3]: /tmp/tmp.0: line 0") for line in lines] == [True, False]


def ended(failures: list[TaskFailure]) -> JobResult:
    return JobResult(job="j", inputs=100, hosts={}, failures=failures, cluster="h[1-2]")


def test_at_most_twenty_lines_of_failures_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [failure("h1", f"in/{word}", f"{word} went wrong") for word in map(chr, range(97, 123))]
    HumanPrinter().job(ended(kinds))
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "went wrong" in line]) == printers.MOST_LINES
    assert lines[-2] == "error: 6 more kinds of failure; the same command with --json shows all"
    assert lines[-1].endswith(", on h[1-2]")


def test_long_texts_count_by_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    HumanPrinter().job(ended([failure("h1", "in/a", "\n".join("x" * 30)), failure("h1", "in/b", "other")]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == printers.MOST_LINES + 2
    assert "1 more kinds of failure" in lines[-2]


def test_few_failures_are_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    HumanPrinter().job(ended([failure("h1", "in/a", "one\ntwo")]))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["error: in/a on h1, attempt 2: one", "    | two"]
    assert len(lines) == 3


def test_copy_says_what_it_did_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    transfer = Transfer(
        fresh=5, kept=2, repaired=1, deleted=3, size=7000, missed=4, lost={"h1": HostLost("down", host="h1")},
        failures={f"in/{number}": NotCopied(f"cannot read in/{number}: no") for number in range(3)},
    )  # fmt: skip
    HumanPrinter().transfer(transfer, 2.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "error: h1: down",
        "error: 3 times, first: cannot read in/0: no",
        "done: 5 ok, 3 failed, 2 kept, 1 repaired, 3 deleted, 4 not copied, 7.0 kB, 2.0s",
    ]


ROWS: list[Placed | Folder] = [Folder("b/d/"), Placed("b/k\n", 12, 0, b"\x01" * 16, "h0")]
BUCKETS = [Bucket("b\x1b", 2, 13, 86_400), Bucket("c", 1, 5, 0)]


def test_listing_is_lines_or_json_or_names(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert HumanPrinter().listing(ROWS, below=2) == 2
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        f"{'PRE':>30} d/", "1970-01-01 00:00:00         12 k\\n",
    ]  # fmt: skip
    assert JsonPrinter().listing(ROWS, below=2) == 2
    assert msgspec.json.decode(capsysbinary.readouterr().out) == [
        {"prefix": "sm://b/d/"}, {"key": "sm://b/k\n", "size": 12, "mtime": 0, "digest": "01" * 16, "host": "h0"},
    ]  # fmt: skip


def test_buckets_are_lines_or_json_or_names(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    HumanPrinter().buckets(BUCKETS)
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        "1970-01-02 00:00:00         13 b\\x1b", "1970-01-01 00:00:00          5 c",
    ]  # fmt: skip
    JsonPrinter().buckets(BUCKETS)
    assert msgspec.json.decode(capsysbinary.readouterr().out)[0] == {
        "bucket": "b\x1b", "keys": 2, "size": 13, "mtime": 86_400,
    }  # fmt: skip


def test_failures_stand_in_the_order_of_their_frequency() -> None:
    kinds = {"rare": 1, "frequent": 5, "seldom": 2}
    failures = [failure("h1", f"in/{word}{n}", word) for word, count in kinds.items() for n in range(count)]
    assert [line.split(": ")[2].split()[0] for line in folded(failures)[:2]] == ["frequent", "seldom"]
    assert folded(failures)[2] == "error: in/rare0 on h1, attempt 2: rare"


def over(hosts: dict[str, HostResult], **fields: object) -> JobResult:
    told = {"number": 7, "inputs": 9, "failures": [], "cluster": "h[0-1]", "seconds": 5.0, **fields}
    return JobResult(job="j", hosts=hosts, **told)  # type: ignore[arg-type]


UNEVEN = {"h0": HostResult(done=1, size=3000, busy=90.0), "h1": HostResult(done=1, size=1000, busy=30.0)}


def said(
    capsys: pytest.CaptureFixture[str], result: JobResult, hint: str = "", printer: Printer | None = None
) -> list[str]:
    (printer or HumanPrinter()).job(result, hint)
    return capsys.readouterr().err.splitlines()


def test_host_that_has_most_is_named_with_how_much_more_that_is(capsys: pytest.CaptureFixture[str]) -> None:
    note, done = said(capsys, over(UNEVEN))
    assert note == "skew: h0 has most bytes, 3.0 kB, 1.5 x the mean; h0 has most time, 1m30s, 1.5 x the mean"
    assert done == "done: 2 ok, 0 failed, 0 kept, 4.0 kB, 5.0s, on h[0-1]"


EVEN: dict[str, dict[str, HostResult]] = {
    "one host": {"h0": HostResult(done=1, size=10, busy=1.0)},
    "nothing was run": {"h0": HostResult(kept=1), "h1": HostResult()},
    "no host": {},
    "times that cannot be": {"h0": HostResult(busy=5.0), "h1": HostResult(busy=-5.0)},
}


@pytest.mark.parametrize("hosts", EVEN.values(), ids=EVEN)
def test_nothing_is_said_of_skew_where_there_is_none(
    capsys: pytest.CaptureFixture[str], hosts: dict[str, HostResult]
) -> None:
    assert not [line for line in said(capsys, over(hosts)) if "has most" in line]


def test_what_to_do_next_stands_above_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, over(UNEVEN, failures=[failure("h1", "in/a")]), "sshmap shell in/a --failed 7")
    assert lines[-2] == "hint: sshmap shell in/a --failed 7"
    assert (lines[-1].startswith("done: "), lines[0].startswith("error: in/a on h1")) == (True, True)


def test_cancelled_tasks_are_counted_where_there_are_some(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = {"h0": HostResult(done=2, failed=1, kept=3, cancelled=4, sending=5)}
    *_, done = said(capsys, over(hosts, ending=Ending.CANCELLED, pruned=6))
    assert done.startswith("done: 2 ok, 1 failed, 3 kept, 4 cancelled, 5 waiting to send, 6 pruned, 0 B")
    *_, done = said(capsys, over({"h0": HostResult(kept=3)}))
    assert done.startswith("nothing to run: done: 0 ok, 0 failed, 3 kept, 0 B")


def test_lost_hosts_relays_and_orphans_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lost = {"h1": HostLost("h1 down: 3 of 9 keys not processed\x1b[A", host="h1")}
    lines = said(capsys, over({"h0": HostResult(done=1)}, lost=lost, relayed=True, orphans=4))
    assert lines[0] == r"error: h1 down: 3 of 9 keys not processed\x1b[A"
    assert (lines[1].startswith("note: fan-out files went"), "4 outputs are gone" in lines[2], len(lines)) == (
        True,
        True,
        4,
    )


def test_json_has_all_counts_and_the_hint_is_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    JsonPrinter().job(over(UNEVEN, ending=Ending.HALTED, failures=[failure("h1", "in/\x1b")]), "do this")
    out, err = capsys.readouterr()
    told = msgspec.json.decode(out)
    assert (told["number"], told["ok"], told["ending"], told["cancelled"], told["bytes"]) == (7, 2, "halted", 0, 4000)
    assert (told["hosts"]["h0"]["busy"], told["failures"][0]["key"], err) == (90.0, "in/\x1b", "hint: do this\n")


def test_quiet_says_what_failed_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, over(UNEVEN), printer=QuietPrinter()) == []
    lines = said(capsys, over(UNEVEN, failures=[failure("h1", "in/a")]), "do this", QuietPrinter())
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]


def test_detached_run_is_a_number_for_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    HumanPrinter().detached(over({}))
    JsonPrinter().detached(over({}))
    assert capsys.readouterr().out == '7\n{"job":"j","number":7}\n'
