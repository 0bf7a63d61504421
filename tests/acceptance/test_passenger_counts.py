"""The recipe for trips by passenger count, run as a person runs it."""

from __future__ import annotations

import collections
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]
RECIPES = REPOSITORY / "recipes"
TAXI = REPOSITORY.parent / "shared" / "taxi"
#: seconds
LIMIT = 60
TAXI_COUNTS = {1: 85363, 2: 17418, 5: 5333, 3: 5102, 6: 3297, 4: 2385, 0: 1100, 7: 2}
STEPS = ("column", "counts", "gathered", "merged")

Counts = dict[object, int]


class Outcome(NamedTuple):
    """What a recipe printed."""

    counts: Counts
    notes: list[str]

    @property
    def ran(self) -> list[int]:
        """Number of tasks that ran, step by step."""
        found = dict(note.split(": ", 1) for note in self.notes)
        return [int(found[step].split(" ran")[0]) for step in STEPS]


pytestmark = pytest.mark.usefixtures("local_state")


def execute(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python as a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def sshmap(*arguments: object) -> str:
    """Run the command line on the local cluster of the recipe."""
    done = execute("-m", "sshmap", "--local", 2, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def recipe(*arguments: object) -> Outcome:
    """Run the recipe; its rows come most trips first."""
    done = execute(RECIPES / "passenger_counts.py", "--local", 2, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows == sorted(rows, key=lambda row: -row["trips"])
    return Outcome({row["passenger_count"]: row["trips"] for row in rows}, done.stderr.splitlines())


def make_trips(folder: Path, months: int, trips: int = 400) -> Path:
    """Write made-up trips below a directory."""
    done = execute(RECIPES / "trips.py", folder, "--months", months, "--trips", trips)
    assert done.returncode == 0, done.stderr
    return folder


def count_by_csv(folder: Path) -> Counts:
    """Count trips by passenger count with Python's csv module."""
    counts: Counts = collections.Counter()
    for path in folder.glob("*.csv"):
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        column = [name.strip().lower() for name in header].index("passenger_count")
        values = [row[column].strip() for row in rows if len(row) == len(header)]
        for value in values:
            counts[int(value) if value else None] += 1
    return dict(counts)


def keys() -> list[str]:
    """All keys there are, as they are typed."""
    return [f"sm://{line.split()[-1]}" for line in sshmap("ls", "-r", "sm://").splitlines()]


@pytest.mark.extra
@pytest.mark.skipif(not TAXI.is_dir(), reason=f"the sample of the agency's trips is not at {TAXI}")
def test_real_trips_are_counted_right() -> None:
    assert recipe("--data", TAXI).counts == TAXI_COUNTS


def test_made_up_trips_are_counted_as_by_the_csv_module(tmp_path: Path) -> None:
    expected = count_by_csv(make_trips(tmp_path / "trips", 9))
    assert set(expected) == {None, 0, 1, 2, 3, 4, 5, 6}
    assert sum(expected.values()) == 9 * 400
    assert recipe("--months", 9, "--trips", 400).counts == expected


def test_made_up_trips_come_in_three_header_styles_with_all_that_is_untidy(tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in make_trips(tmp_path / "trips", 9).iterdir()}
    headers = {name: content.splitlines()[0].decode() for name, content in files.items()}
    assert {header.replace('"', "").split(",")[0] for header in headers.values()} == {
        "vendor_name",
        "vendor_id",
        "VendorID",
    }
    columns = [[name.strip(' "').lower() for name in header.split(",")] for header in headers.values()]
    assert len({names.index("passenger_count") for names in columns}) > 1
    assert any(", " in header for header in headers.values())
    assert any('"' in header for header in headers.values())
    assert any(b"\r\n" in content for content in files.values())
    for content in files.values():
        header, blank, *rows = content.splitlines()
        assert not blank
        assert any(row.count(b",") < header.count(b",") for row in rows)


def test_made_up_trips_are_the_same_each_time(tmp_path: Path) -> None:
    one, other = make_trips(tmp_path / "one", 2), make_trips(tmp_path / "other", 3)
    assert all(path.read_bytes() == (other / path.name).read_bytes() for path in one.iterdir())


def test_nothing_runs_again_and_that_is_said(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 3)
    first = recipe("--data", data)
    assert first.ran == [3, 3, 3, 1]
    again = recipe("--data", data)
    assert again.ran == [0, 0, 0, 0]
    assert again.notes[-1] == "nothing ran: all 10 results were there already"
    assert again.counts == first.counts


def test_a_month_added_runs_its_own_tasks_and_the_merge() -> None:
    recipe("--months", 3, "--trips", 400)
    added = recipe("--months", 4, "--trips", 400)
    assert added.ran == [1, 1, 1, 1]
    assert sum(added.counts.values()) == 4 * 400


def test_a_deleted_intermediate_key_is_made_again_and_nothing_runs_on_equal_content(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 3)
    first, before = recipe("--data", data), keys()
    for step in STEPS:
        sshmap("rm", next(key for key in before if f"/{step}/" in key))
        again = recipe("--data", data)
        assert again.ran == [int(other == step) for other in STEPS]
        assert again.counts == first.counts
        assert keys() == before


def test_after_deleting_what_came_of_a_month_that_month_and_the_merge_run(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 3)
    first = recipe("--data", data)
    for key in keys():
        if key.endswith("/merged/passenger_count") or ("2011-01" in key and "/data/" not in key):
            sshmap("rm", key)
    again = recipe("--data", data)
    assert again.ran == [1, 1, 1, 1]
    assert again.counts == first.counts


def test_a_file_that_has_changed_is_counted_as_it_is_now(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 3)
    recipe("--data", data)
    changed = sorted(data.iterdir())[1]
    with changed.open("a", newline="") as file:
        file.write(changed.read_text().splitlines()[2] + "\n")
    again = recipe("--data", data)
    assert f"data: {changed.name} has changed" in again.notes
    assert again.ran == [1, 1, 1, 1]
    assert again.counts == count_by_csv(data)


def test_a_file_that_is_gone_is_not_counted_any_more(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 3)
    recipe("--data", data)
    gone = min(data.iterdir())
    gone.unlink()
    again = recipe("--data", data)
    assert f"data: {gone.name} is gone" in again.notes
    assert again.ran == [0, 0, 0, 1]
    assert again.counts == count_by_csv(data)
    assert not any(gone.name in key for key in keys())


def test_equally_named_directories_do_not_mix(tmp_path: Path) -> None:
    one, other = make_trips(tmp_path / "one" / "trips", 1), make_trips(tmp_path / "other" / "trips", 2)
    assert recipe("--data", one).counts == count_by_csv(one)
    assert recipe("--data", other).counts == count_by_csv(other)
    assert recipe("--data", one).ran == [0, 0, 0, 0]


def test_odd_names_and_files_without_trips_are_no_trouble(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "a 'directory' of $trips", 1)
    next(data.iterdir()).rename(data / '1_it\'s a "month".csv')
    (data / "no trips.csv").write_text("vendor_id, passenger_count\r\n\r\n", newline="")
    (data / "README.md").write_text("not data")
    assert recipe("--data", data).counts == count_by_csv(data)


def test_a_file_without_the_column_is_named_in_one_line(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 1)
    (data / "weather.csv").write_text("day,rain\n1,2\n")
    done = execute(RECIPES / "passenger_counts.py", "--local", 2, "--data", data)
    assert done.returncode == 1
    assert "weather.csv" in done.stderr
    assert "no column passenger_count in the header: day,rain" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("done: 1 ok, 1 failed")
    assert not done.stdout


def test_a_directory_without_files_is_an_error_with_a_hint(tmp_path: Path) -> None:
    done = execute(RECIPES / "passenger_counts.py", "--local", 2, "--data", tmp_path / "nothing")
    assert done.returncode == 2
    hint = "--data takes a directory with files named *.csv* or *.parquet, a quoted glob, or addresses"
    assert done.stderr == f"error: no files *.csv* or *.parquet in {tmp_path / 'nothing'}\nhint: {hint}\n"


def test_the_table_has_a_row_for_each_count_and_a_dash_for_the_empty_one(tmp_path: Path) -> None:
    data = make_trips(tmp_path / "trips", 2)
    done = execute(RECIPES / "passenger_counts.py", "--local", 2, "--data", data)
    table, picture = (part.splitlines() for part in done.stdout.split("\n\n"))
    header, *rows = [line.split() for line in table]
    assert header == ["passenger_count", "trips"]
    expected = {"-" if count is None else str(count): str(trips) for count, trips in count_by_csv(data).items()}
    assert {row[0]: row[1] for row in rows} == expected
    assert [line.split()[0] for line in picture] == [row[0] for row in rows]
