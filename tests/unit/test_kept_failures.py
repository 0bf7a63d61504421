"""The directories of failed tasks: which are kept, of which attempt, and when they go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sshmap.store import kept_failures as module
from sshmap.store.kept_failures import KeptFailures, size_of
from sshmap.store.tasks import Task
from tests.unit import benches
from tests.unit.benches import SPEC, Bench, other

bench = benches.bench


@pytest.fixture
def kept(bench: Bench) -> KeptFailures:
    return KeptFailures(bench.store)


def work(bench: Bench, content: bytes = b"left") -> Path:
    """Make a working directory as a command leaves it."""
    path = bench.store.root.path / "tmp" / "work"
    path.mkdir()
    (path / "file").write_bytes(content)
    return path


def keep(
    bench: Bench, kept: KeptFailures, task: Task | None = None, content: bytes = b"left", *, reserve: int = 0
) -> bool:
    """Have a task, or the next one, fail and its directory kept."""
    task = task or bench.claim()[0]
    is_kept = kept.keep(str(work(bench, content)), task, reserve=reserve)
    bench.end(task, fails=True)
    return is_kept


def contents(bench: Bench) -> list[bytes]:
    """Return what the directories that are kept hold."""
    return sorted(path.read_bytes() for path in bench.store.root.path.glob("failed/*/file"))


def ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the directory whose file says the higher number have come later, however quickly they came."""
    monkeypatch.setattr(module, "_age", lambda path: -int((path / "file").read_text()))


def test_directory_is_found_by_run_and_input(bench: Bench, kept: KeptFailures) -> None:
    run = bench.begin("1", SPEC, 1)
    assert keep(bench, kept)
    found = kept.of(run.seq, "in/x")
    assert found is not None
    assert (found / "file").read_bytes() == b"left"
    assert (kept.of(run.seq, "in/y"), kept.of(run.seq + 1, "in/x")) == (None, None)
    assert found.parent.stat().st_mode & 0o777 == 0o700


def test_nothing_is_found_where_nothing_was_kept(bench: Bench, kept: KeptFailures) -> None:
    run = bench.begin("1", SPEC, 1)
    assert (kept.of(run.seq, "in/x"), kept.drop(0)) == (None, (0, 0))


def test_last_attempt_is_the_one_with_the_highest_number(bench: Bench, kept: KeptFailures) -> None:
    """By number, not as text: the tenth comes after the ninth."""
    run = bench.begin("1", SPEC, 1)
    for number in range(11):
        (task,) = bench.claim()
        assert kept.keep(str(work(bench, b"%d" % number)), task, reserve=0)
        with bench.ledger.change():
            bench.tasks.try_again(task.id, "CommandsFailed", "exit 1", 1, None, pause=0)
    found = kept.of(run.seq, "in/x")
    assert found is not None
    assert (found / "file").read_bytes() == b"10"


def test_larger_directory_of_an_earlier_attempt_is_not_taken_for_the_last(bench: Bench, kept: KeptFailures) -> None:
    run = bench.begin("1", SPEC, 1)
    for content in (b"x" * 5000, b"last"):
        (task,) = bench.claim()
        assert kept.keep(str(work(bench, content)), task, reserve=0)
        with bench.ledger.change():
            bench.tasks.try_again(task.id, "CommandsFailed", "exit 1", 1, None, pause=0)
    found = kept.of(run.seq, "in/x")
    assert found is not None
    assert (found / "file").read_bytes() == b"last"


def test_directory_of_a_forgotten_run_is_not_taken_for_that_of_a_later_task(bench: Bench, kept: KeptFailures) -> None:
    """The ledger gives numbers of forgotten tasks again."""
    bench.begin("1", SPEC, 1)
    (former,) = bench.claim()
    keep(bench, kept, former)
    while bench.forgetting.step(age=-1):
        continue
    run = bench.begin("2", SPEC, 1)
    (task,) = bench.claim()
    assert (task.id, task.attempt) == (former.id, former.attempt)
    assert kept.of(run.seq, "in/x") is None
    assert keep(bench, kept, task, b"left anew")
    found = kept.of(run.seq, "in/x")
    assert found is not None
    assert (found / "file").read_bytes() == b"left anew"


def test_runs_that_work_on_the_same_input_are_told_apart(bench: Bench, kept: KeptFailures) -> None:
    runs = [bench.begin(name, other(name), 1) for name in ("1", "2")]
    for run in runs:
        (task,) = bench.tasks.claim(0, 1, fanouts=True, run=run.seq)
        assert keep(bench, kept, task, task.output.encode())
    found = [kept.of(run.seq, "in/x") for run in runs]
    assert [path and (path / "file").read_bytes() for path in found] == [b"1/000000", b"2/000000"]


def test_newest_twenty_are_kept(bench: Bench, kept: KeptFailures, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.MOST == 20
    monkeypatch.setattr(module, "MOST", 3)
    ages(monkeypatch)
    bench.begin("1", SPEC, 6)
    for number, task in enumerate(bench.claim(6)):
        assert keep(bench, kept, task, b"%d" % number)
    assert contents(bench) == [b"3", b"4", b"5"]


def test_older_ones_go_where_all_together_are_too_large(
    bench: Bench, kept: KeptFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.MOST_SIZE == 1 << 30
    monkeypatch.setattr(module, "MOST_SIZE", 250)
    ages(monkeypatch)
    bench.begin("1", SPEC, 5)
    for number, task in enumerate(bench.claim(5)):
        assert keep(bench, kept, task, b"%0100d" % number)
    assert [int(content) for content in contents(bench)] == [3, 4]


def test_directory_that_is_too_large_is_left_where_it_is(
    bench: Bench, kept: KeptFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SIZE", 100)
    bench.begin("1", SPEC, 2)
    small, large = bench.claim(2)
    assert keep(bench, kept, small, b"x" * 100)
    assert not keep(bench, kept, large, b"x" * 101)
    assert contents(bench) == [b"x" * 100]
    assert (bench.store.root.path / "tmp" / "work" / "file").exists()


def test_directory_with_very_many_files_is_not_kept(
    bench: Bench, kept: KeptFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_FILES", 10)
    bench.begin("1", SPEC, 1)
    path = work(bench)
    for number in range(10):
        (path / str(number)).touch()
    assert not kept.keep(str(path), *bench.claim(), reserve=0)
    (path / "0").unlink()
    (path / "deeper").mkdir()
    (path / "deeper" / "0").touch()
    assert size_of(str(path)) == module.MOST_SIZE + 1


def test_nothing_is_kept_while_the_disk_has_less_than_its_reserve(bench: Bench, kept: KeptFailures) -> None:
    bench.begin("1", SPEC, 1)
    assert not keep(bench, kept, reserve=1 << 62)
    assert contents(bench) == []


def test_kept_ones_go_by_their_age(bench: Bench, kept: KeptFailures, monkeypatch: pytest.MonkeyPatch) -> None:
    ages(monkeypatch)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    bench.begin("1", SPEC, 3)
    for second, task in zip((700, 800, 900), bench.claim(3), strict=True):
        assert keep(bench, kept, task, b"%d" % second)
    assert kept.drop(150) == (2, 6)
    assert contents(bench) == [b"900"]
    assert kept.drop(150) == (0, 0)


def test_what_is_named_otherwise_is_left_alone(bench: Bench, kept: KeptFailures) -> None:
    folder = bench.store.root.path / "failed"
    names = ["lost+found", "1.2", "1.2.3.4.5", "1.2.3.x", "-1.2.3.4", "1.2.3.4 ", "٣.1.1.1"]
    for name in names:
        (folder / name).mkdir(parents=True)
    run = bench.begin("1", SPEC, 1)
    assert keep(bench, kept)
    assert kept.of(run.seq, "in/x") is not None
    assert kept.drop(-1) == (1, 4)
    assert sorted(os.listdir(folder)) == sorted(names)


def test_odd_names_and_modes_are_kept_and_dropped(bench: Bench, kept: KeptFailures) -> None:
    path = work(bench)
    odd = [b"new\nline", b"\xff\xfe", b"-rf", b"sp ace", b"\x1b[2J", b"x" * 255]
    for name in odd:
        Path(os.fsdecode(bytes(path) + b"/" + name)).write_bytes(b"12")
    (path / "closed").mkdir(0o700)
    (path / "closed" / "file").write_bytes(b"3")
    (path / "closed").chmod(0o000)
    os.mkfifo(path / "pipe")
    bench.begin("1", SPEC, 1)
    assert kept.keep(str(path), *bench.claim(), reserve=0)
    count, size = kept.drop(-1)
    assert (count, size in (16, 17)) == (1, True)
    assert os.listdir(bench.store.root.path / "failed") == []


def test_links_count_as_what_they_are_and_lead_nowhere(bench: Bench, kept: KeptFailures, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(0o750)
    (outside / "precious").write_bytes(b"x" * 100_000)
    path = work(bench)
    (path / "to a file").symlink_to(outside / "precious")
    (path / "to a directory").symlink_to(outside)
    (path / "round").symlink_to(".")
    (path / "nowhere").symlink_to("/nonexistent")
    assert size_of(str(path)) < 1000
    bench.begin("1", SPEC, 1)
    assert kept.keep(str(path), *bench.claim(), reserve=0)
    kept.drop(-1)
    assert (outside / "precious").stat().st_size == 100_000
    assert outside.stat().st_mode & 0o777 == 0o750


def test_directory_that_is_gone_is_not_kept(bench: Bench, kept: KeptFailures) -> None:
    bench.begin("1", SPEC, 1)
    assert not kept.keep(str(bench.store.root.path / "tmp" / "gone"), *bench.claim(), reserve=0)
    assert kept.drop(-1) == (0, 0)


def test_two_workers_that_drop_the_same_directories_hinder_neither(
    bench: Bench, kept: KeptFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one finds the directories, then the other deletes them."""
    bench.begin("1", SPEC, 2)
    for task in bench.claim(2):
        assert keep(bench, kept, task)
    found = kept._all()
    monkeypatch.setattr(kept, "_all", lambda: found)
    assert KeptFailures(bench.store).drop(-1) == (2, 8)
    kept.drop(-1)
    assert contents(bench) == []
