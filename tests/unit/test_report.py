"""Reports: what is added up from attempts, and how it becomes a page that hosts can put nothing into but text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from sshmap.client.figures import MOST_BARS, MOST_FAILED, MOST_SLOWEST, MOST_WORKERS, Figures, short, times
from sshmap.client.rates import MOST_STEPS, Rates
from sshmap.client.report import save
from sshmap.client.report_page import describe, options_of, write_page
from sshmap.errors import UsageError
from sshmap.limits import Limits
from sshmap.model import AttemptEnd, JobSpec, Maker, Shipped, TaskState, Verb
from sshmap.protocol.messages import AttemptRow
from tests.reports import BEGAN, HOSTILE, attempt, attempts, report_of, summary


def added_up(rows: dict[str, list[AttemptRow]], most_bars: int = MOST_BARS) -> Figures:
    figures = Figures(rows, BEGAN + 100, most_bars)
    for host, some in rows.items():
        for row in some:
            figures.take(host, row)
    return figures


def test_hosts_and_workers_are_added_up() -> None:
    rows = {
        "h0": [attempt(0, at=0, ran=2), attempt(1, at=2, ran=1, outcome=AttemptEnd.FAILED), attempt(2, at=1, ran=3, slot=1)],
        "h1": [],
    }  # fmt: skip
    figures = added_up(rows)
    host = figures.hosts["h0"]
    assert (host.tasks, host.failed, host.busy, host.received, host.made) == (3, 1, 6, 300, 30)
    assert {slot: (worker.tasks, worker.busy) for slot, worker in host.workers.items()} == {0: (2, 3), 1: (1, 3)}
    assert (figures.first, figures.last, host.last) == (BEGAN, BEGAN + 4, BEGAN + 4)
    assert (figures.hosts["h1"].tasks, figures.hosts["h1"].workers) == (0, {})
    assert figures.marks == {"done": 2, "failed": 1}
    assert [(bar.began - BEGAN, bar.seconds, bar.mark) for bar in figures.bars()["h0", 0]] == [(0, 2, 0), (2, 1, 1)]


def test_what_nobody_measured_is_drawn_but_its_worker_is_not_busy() -> None:
    lost = attempt(0, at=0, ran=0, ended=5, outcome=AttemptEnd.LOST)
    returned = attempt(1, at=0, ran=0, ended=5, outcome=AttemptEnd.RETURNED)
    waiting = AttemptRow(task=2, key="sm://b/in/k", state=TaskState.QUEUED, queued=BEGAN)
    figures = added_up({"h0": [lost, returned, waiting]})
    assert figures.hosts["h0"].busy == 0
    assert [bar.seconds for bar in figures.bars()["h0", 0]] == [5, 0]
    assert figures.marks == {"lost": 1, "returned": 1}


def test_running_commands_are_drawn_up_to_now_and_counted_once_for_each_worker() -> None:
    running = [attempt(task, at=90, ran=0, outcome=None, state=TaskState.RUNNING) for task in range(3)]
    figures = added_up({"h0": running})
    assert [bar.seconds for bar in figures.bars()["h0", 0]] == [10, 10, 10]
    assert figures.hosts["h0"].busy == 10


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_times_that_cannot_be_are_taken_as_unknown(value: float) -> None:
    row = AttemptRow(
        task=0, key="k", state=TaskState.DONE, attempt=1, began=value, ended=value, ran=value, user=value, outcome=AttemptEnd.DONE
    )  # fmt: skip
    assert times(row, BEGAN) == (0, 0)
    page = write_page(report_of({"h0": [row]}))
    assert held(page)["runs"][0]["hosts"][0]["cpu"] == 0


def test_bars_are_thinned_evenly_and_failed_ones_stay() -> None:
    rows = [attempt(task, at=task, ran=1, slot=task % 4) for task in range(4000)]
    rows += [attempt(5000, at=7, ran=1, outcome=AttemptEnd.FAILED)]
    figures = added_up({"h0": rows}, most_bars=1000)
    bars = figures.bars()
    assert 400 < sum(map(len, bars.values())) <= 1000
    assert sum(bar.mark == 1 for some in bars.values() for bar in some) == 1
    for slot in range(4):
        began = [bar.began for bar in bars["h0", slot] if bar.mark == 0]
        assert len({later - sooner for sooner, later in itertools.pairwise(began)}) == 1
    assert (figures.hosts["h0"].tasks, figures.hosts["h0"].busy) == (4001, 4001)


def test_nothing_that_hosts_send_makes_a_report_larger_than_it_may_be() -> None:
    rows = [attempt(task, at=task, ran=task + 1, slot=task) for task in range(MOST_WORKERS + 50)]
    figures = added_up({"h0": rows}, most_bars=100)
    assert len(figures.hosts["h0"].workers) == MOST_WORKERS
    assert figures.undrawn == 50
    assert [row.seconds for row in figures.slowest()] == [len(rows) - place for place in range(MOST_SLOWEST)]
    assert len(short("x" * 4000)) == 160
    assert short("x" * 160) == "x" * 160


def test_no_host_takes_all_the_room_for_failed_attempts() -> None:
    figures = Figures(["h0", "h1"], BEGAN)
    said = b"a" * 9000 + b"\xff"
    for host, count in (("h0", 1000), ("h1", 30)):
        rows = (attempt(task, at=task, ran=1, outcome=AttemptEnd.FAILED, stderr=said) for task in range(count))
        taken = list(itertools.takewhile(lambda row, host=host: figures.take_failed(host, row), rows))  # type: ignore[misc]
        assert len(taken) == min(count, MOST_FAILED)
    shown = figures.failed()
    assert len(shown) == MOST_FAILED
    assert sum(row.host == "h1" for row in shown) == 30
    assert all(len(row.stderr) <= 8192 + 5 for row in shown)


def test_rates_say_what_ran_and_ended_in_each_step() -> None:
    rates = Rates()
    rates.ran(1000.0, 10.0)
    rates.ran(1005.0, 5.0)
    rates.ended(1010.0, failed=False)
    rates.ended(1009.99, failed=True)
    rows = rates.rows()
    assert len(rows) <= 21
    assert (sum(row[0] for row in rows), sum(row[1] for row in rows)) == (1, 1)
    assert sum(row[2] for row in rows) * rates.step == pytest.approx(15, rel=0.01)
    middle = round((1007.5 - rates.begin) / rates.step)
    assert rows[middle][2] == pytest.approx(2)


@pytest.mark.parametrize("span", [0.001, 3.0, 86_400.0, 3e9])
def test_rates_have_few_steps_however_long_it_takes(span: float) -> None:
    rates = Rates()
    for number in range(500):
        at = 1.7e9 + span * number / 500
        rates.ran(at, span / 500)
        rates.ended(at, failed=False)
    rows = rates.rows()
    assert 0 < len(rows) <= MOST_STEPS + 1
    assert sum(row[0] for row in rows) == 500
    assert sum(row[2] for row in rows) * rates.step == pytest.approx(span, rel=0.05, abs=0.01)


def test_options_are_those_that_were_typed() -> None:
    maker = Maker(verb=Verb.MAP, command="cat", shipped=(Shipped(name="job.py", digest=b"0" * 16),))
    job = JobSpec(indir="sm://b/in/", outdir="sm://b/out/", maker=maker, replace=True, keep_done=True)
    limits = Limits(
        jobs="50%", retries=3, timeout=600, halt_percent=10, halt_now=True, memory_free=2_000_000_000, nice=7
    )
    typed = [
        "--with job.py", "--replace", "--keep-done", "--jobs 50%", "--retries 3", "--memfree 2000000000", "--nice 7", "--timeout 10m",
        "--halt now,fail=10%",
    ]  # fmt: skip
    assert options_of(job, limits) == typed
    plain = JobSpec(indir="sm://b/in/", outdir="sm://b/out/", maker=Maker(verb=Verb.MAP, command="cat"))
    assert options_of(plain, Limits()) == []
    assert options_of(plain, Limits(timeout_percent=300, halt_failed=2)) == ["--timeout 300%", "--halt soon,fail=2"]


def held(page: str) -> dict[str, Any]:
    """Return the data that a page holds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_page_holds_all_bars_and_each_key_once_without_what_keys_share() -> None:
    run = held(write_page(report_of({"h0": attempts(10), "h1": attempts(2)})))["runs"][0]
    assert [len(worker["begins"]) for worker in run["workers"]] == [5, 5, 1, 1]
    assert (run["prefix"], run["workers"][0]["keys"][:2]) == ("sm://b/in/k", ["0", "2"])
    assert (run["workers"][0]["begins"], run["workers"][0]["marks"]) == ([0, 20_000, 20_000, 20_000, 20_000], "00000")


def test_nothing_that_hosts_say_leaves_the_data_of_the_page() -> None:
    row = attempt(0, at=0, ran=1, key=f"sm://b/{HOSTILE}", outcome=AttemptEnd.FAILED, stderr=HOSTILE.encode())
    page = write_page(report_of({HOSTILE: [row]}, command=HOSTILE + "\u2028@DATA@@POLICY@"))
    plain = write_page(report_of({"h0": []}))
    for dangerous in ("<", ">", "&", "\u2028"):
        assert page.count(dangerous) == plain.count(dangerous)
    run = held(page)["runs"][0]
    assert (run["hosts"][0]["name"], run["command"]) == (HOSTILE, HOSTILE + "\u2028@DATA@@POLICY@")
    assert (run["failed"][0]["stderr"], run["failed"][0]["key"]) == (HOSTILE, f"sm://b/{HOSTILE}")


def test_policy_of_the_page_allows_its_own_script_and_no_network() -> None:
    page = write_page(report_of({"h0": attempts(3)}))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"script-src ([^;]*);", policy) == [f"'sha256-{digest}'"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?:|url\(", page)


def test_host_that_did_not_tell_all_is_named() -> None:
    figures = added_up({"h0": attempts(3)})
    run = describe(summary({"h0": attempts(3)}), None, figures, {"h1": "no answer"})
    assert (run.silent, run.options, run.command) == ({"h1": "no answer"}, [], "cat")


def test_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    save("first", tmp_path / "report.html")
    save("second", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "second"
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", tmp_path / "report.html" / "below"):
        with pytest.raises(UsageError, match="cannot write"):
            save("third", place)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["folder", "report.html"]
