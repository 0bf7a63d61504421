"""The options of the three verbs and of `retry`: each reaches what the cluster is asked, and what makes no sense is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap.cli.app import settings
from sshmap.cli.main import run
from sshmap.client.cluster import Cluster
from sshmap.client.described import Options
from sshmap.client.job_results import HostResult, JobResult
from sshmap.client.summaries import RunSummary
from sshmap.limits import Limits
from sshmap.model import Verb

JOB = ("sm://in/", "sm://out/", "cat")
VERBS = {"map": Verb.MAP, "fanout": Verb.FANOUT, "merge": Verb.MERGE, "map-to-n": Verb.FANOUT, "map-from-n": Verb.MERGE}
RESULT = JobResult(job="j", number=7, inputs=1, hosts={"h0": HostResult(done=1)}, failures=[])
RUN = RunSummary(
    run="a1", number=7, job="j", verb=Verb.MERGE, indir="sm://in/", outdir="sm://out/", command="cat", submitted=1, ended=2,
    origin="", ending=None, states={}, kept=0, size=0, hosts={},
)  # fmt: skip
Asked = list[tuple[object, Options]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Note what the cluster is asked, and do nothing."""
    calls: Asked = []

    def note(answer: object) -> Callable[..., object]:
        def call(_: Cluster, *arguments: object, **options: object) -> object:
            calls.append((arguments, options))  # type: ignore[arg-type]
            return answer

        return call

    for name, answer in (("submit", RESULT), ("explain", {}), ("retry", RESULT)):
        monkeypatch.setattr(Cluster, name, note(answer))
    monkeypatch.setattr(Cluster, "job", lambda _, which: RUN)
    for name in ("local", "words", "called"):
        monkeypatch.setattr(settings, name, getattr(settings, name))
    return calls


def given(asked: Asked, *words: str) -> Options:
    """Type a command and return the options of what was asked."""
    assert run(["--local", "2", *words]) == 0
    ((_, options),) = asked
    return options


@pytest.mark.parametrize("typed", VERBS)
def test_verb_and_its_synonym_reach_the_cluster(asked: Asked, typed: str) -> None:
    given(asked, typed, *JOB)
    assert asked[0][0] == (VERBS[typed], *JOB)


@pytest.mark.parametrize("typed", ["map", "fanout", "merge"])
def test_nothing_that_was_not_typed_is_asked_for(asked: Asked, typed: str) -> None:
    options = given(asked, typed, *JOB)
    assert options["limits"] == Limits()
    chosen = {name: value for name, value in options.items() if name not in ("limits", "report", "note")}
    assert not any(chosen.values()), chosen


LIMITS: dict[tuple[str, ...], dict[str, object]] = {
    ("--jobs", "50%"): {"jobs": "50%"},
    ("-j", "3"): {"jobs": "3"},
    ("--jobs", "+2"): {"jobs": "+2"},
    ("--retries", "4"): {"retries": 4},
    ("--timeout", "10m"): {"timeout": 600.0},
    ("--timeout", "300%"): {"timeout_percent": 300.0},
    ("--halt", "now,fail=3"): {"halt_now": True, "halt_failed": 3},
    ("--halt", "soon,fail=10%"): {"halt_percent": 10},
    ("--memfree", "2G"): {"memory_free": 2_000_000_000},
    ("--limit-rate", "50M"): {"rate": 50_000_000},
    ("--nice", "19"): {"nice": 19},
}
CHOICES: dict[tuple[str, ...], dict[str, object]] = {
    ("--replace",): {"replace": True},
    ("--keep-done",): {"keep_done": True},
    ("--prune",): {"prune": True},
    ("--sample", "5"): {"sample": 5},
    ("--detach",): {"detach": True},
    ("--notify-host", "mail me"): {"notify_host": "mail me"},
}


@pytest.mark.parametrize("words", LIMITS, ids=" ".join)
@pytest.mark.parametrize(
    "typed", [("map", *JOB), ("fanout", *JOB), ("merge", *JOB), ("retry", "7")], ids=lambda typed: typed[0]
)
def test_limit_reaches_the_run(asked: Asked, typed: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert given(asked, *typed, *words)["limits"] == Limits(**LIMITS[words])  # type: ignore[arg-type]


@pytest.mark.parametrize("words", CHOICES, ids=" ".join)
@pytest.mark.parametrize("typed", ["map", "fanout", "merge"])
def test_choice_reaches_the_job(asked: Asked, typed: str, words: tuple[str, ...]) -> None:
    assert CHOICES[words].items() <= given(asked, typed, *JOB, *words).items()


def test_partial_belongs_to_merge_alone(asked: Asked) -> None:
    assert given(asked, "merge", *JOB, "--partial")["partial"] is True
    for verb in ("map", "fanout"):
        assert run([verb, *JOB, "--partial"]) == 2


def test_all_limits_reach_one_run_together(asked: Asked) -> None:
    words = [
        word
        for pair in LIMITS
        for word in pair
        if pair not in (("-j", "3"), ("--jobs", "+2"), ("--timeout", "10m"), ("--halt", "now,fail=3"))
    ]
    limits = given(asked, "map", *JOB, *words)["limits"]
    assert limits == Limits(
        jobs="50%", retries=4, timeout_percent=300, halt_percent=10, memory_free=2 * 10**9, rate=50 * 10**6, nice=19
    )


@pytest.mark.parametrize(
    "name", ["JOBS=3", "RETRIES=2", "TIMEOUT=5s", "HALT=now,fail=1", "MEMFREE=1G", "LIMIT_RATE=1M", "NICE=3"]
)
def test_limit_may_be_set_in_the_environment(asked: Asked, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variable, value = name.split("=", 1)
    monkeypatch.setenv(f"SSHMAP_{variable}", value)
    assert given(asked, "map", *JOB)["limits"] != Limits()


def test_shipped_files_reach_the_job(asked: Asked, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).touch()
    options = given(asked, "map", *JOB, "--with", "one", "--with", "two")
    assert list(options["shipped"]) == [Path("one"), Path("two")]


@pytest.mark.parametrize("word", ["-n", "--dry-run", "--explain"])
def test_look_submits_nothing(asked: Asked, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(Cluster, "submit", lambda *_, **__: pytest.fail("it was submitted"))
    given(asked, "map", *JOB, word)
    assert asked[0][0] == (Verb.MAP, *JOB)


def test_retry_names_the_run_by_its_id_and_keeps_its_limits(asked: Asked) -> None:
    options = given(asked, "retry")
    assert (asked[0][0], "limits" in options) == (("a1",), False)


REFUSED = [
    ("--jobs", "0"), ("--jobs", "many"), ("--retries", "-1"), ("--retries", "1000001"), ("--timeout", "0"), ("--timeout", "0%"),
    ("--timeout", "soon"), ("--halt", "never"), ("--memfree", "much"), ("--limit-rate", "0"), ("--nice", "20"), ("--nice", "-1"), ("--sample", "-1"),
]  # fmt: skip


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_makes_no_sense_is_refused_by_its_name(
    asked: Asked, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert (run(["map", *JOB, "=".join(words)]), asked) == (2, [])
    assert capsys.readouterr().err.startswith(f"error: {words[0]} {words[1]}: ")


def test_number_is_printed_of_a_detached_run(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert given(asked, "map", *JOB, "--detach")["detach"]
    assert capsys.readouterr().out == "7\n"
