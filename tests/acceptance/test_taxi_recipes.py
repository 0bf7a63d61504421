"""The recipes that analyse taxi trips, against answers that Python's csv module gives, on made-up trips and on real ones."""

from __future__ import annotations

import csv
import datetime as dt
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from sshmap import Cluster
from tests import sshd
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts

REPOSITORY = Path(__file__).parents[2]
TAXI = REPOSITORY.parent / "shared" / "taxi"
#: seconds
LIMIT = 60
HOSTS = 2
NAMES = {
    "pickup": {"trip_pickup_datetime", "pickup_datetime", "tpep_pickup_datetime"}, "passengers": {"passenger_count"},
    "distance": {"trip_distance"}, "payment": {"payment_type"}, "total": {"total_amt", "total_amount"},
}  # fmt: skip
Rows = list[dict[str, object]]


def read(folder: Path) -> Iterator[dict[str, str]]:
    """Go through all trips of a directory, by our names of their columns."""
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        names = [name.strip().lower() for name in header]
        places = {
            ours: next(place for place, name in enumerate(names) if name in theirs) for ours, theirs in NAMES.items()
        }
        for row in rows:
            if len(row) >= len(header):
                yield {name: row[place].strip() for name, place in places.items()}


def counted(trips: Iterator[dict[str, str]], *columns: Callable[[dict[str, str]], str]) -> list[tuple[object, ...]]:
    counts = Counter(tuple(column(trip) for column in columns) for trip in trips)
    return [(*map(as_value, values), count) for values, count in sorted(counts.items())]


def as_value(text: str) -> object:
    return int(text) if text.isdecimal() else text or None


def amounts(trips: Iterator[dict[str, str]]) -> list[tuple[object, ...]]:
    sums: Counter[str] = Counter()
    for trip in trips:
        sums[trip["pickup"][:7]] += Decimal(trip["total"] or 0)  # type: ignore[assignment]
    return [(month, float(amount)) for month, amount in sorted(sums.items())]


def longest(trips: Iterator[dict[str, str]]) -> list[tuple[object, ...]]:
    found = sorted(((float(trip["distance"]), trip["pickup"]) for trip in trips), reverse=True)
    return [(distance, pickup) for distance, pickup in found[:5]]


#: by recipe: what its table has to be, row by row
ANSWERS: dict[str, Callable[[Iterator[dict[str, str]]], list[tuple[object, ...]]]] = {
    "total_amount_by_month": amounts,
    "payment_types_by_year": lambda trips: counted(
        trips, lambda trip: trip["pickup"][:4], lambda trip: trip["payment"].lower()
    ),
    "passengers_by_year": lambda trips: counted(
        trips, lambda trip: trip["passengers"] or "unknown", lambda trip: trip["pickup"][:4]
    ),
    "longest_trips": longest,
}


@pytest.fixture
def local_cluster(local_state: Path) -> tuple[str, ...]:
    """The options of a local cluster."""
    return "--local", str(HOSTS)


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """Made-up trips in all styles of the years."""
    write: list[str | Path] = [
        sys.executable,
        REPOSITORY / "recipes" / "trips.py",
        tmp_path / "trips",
        "--months",
        "9",
        "--trips",
        "300",
    ]
    subprocess.run(write, check=True, timeout=LIMIT)
    return tmp_path / "trips"


def run(recipe: str, *arguments: object) -> tuple[str, str]:
    """Run a recipe, and return what it printed and said."""
    argv = [sys.executable, REPOSITORY / "recipes" / f"{recipe}.py", *arguments]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def rows_of(recipe: str, *arguments: object) -> list[tuple[object, ...]]:
    out, _ = run(recipe, "--json", *arguments)
    return [tuple(row.values()) for row in json.loads(out)]


@pytest.mark.parametrize("recipe", ANSWERS)
def test_made_up_trips_give_what_the_csv_module_gives(
    recipe: str, local_cluster: tuple[str, ...], made_up: Path
) -> None:
    assert sorted(rows_of(recipe, *local_cluster, "--trips", made_up), key=str) == sorted(
        ANSWERS[recipe](read(made_up)), key=str
    )
    _, said = run(recipe, *local_cluster, "--trips", made_up)
    assert said.splitlines()[-1].startswith("nothing ran: all ")


@pytest.fixture(params=["local", "ssh"])
def any_cluster(
    request: pytest.FixtureRequest, clean_environment: None, tmp_path: Path
) -> Iterator[tuple[str | Path, ...]]:
    """The options of a local cluster, or of three hosts reached by ssh."""
    if request.param == "local":
        yield request.getfixturevalue("local_cluster")
        return
    hosts: SshdHosts = request.getfixturevalue("sshd_hosts")
    hosts.add(3)
    inventory = hosts.write(hosts.inventory("openssh", workers=1))
    with Cluster(inventory) as cluster:
        _, failures = cluster.up()
        assert not failures
        yield "-i", inventory
        cluster.down(purge=True)


@pytest.mark.extra
@pytest.mark.skipif(not TAXI.is_dir(), reason=f"the sample of the agency's trips is not at {TAXI}")
def test_real_trips_give_the_known_answers(any_cluster: tuple[str, ...]) -> None:
    options = (*any_cluster, "--trips", TAXI)
    counts = rows_of("passenger_counts", *any_cluster, "--data", TAXI)
    assert sorted(counts, key=str) == sorted(
        {1: 85363, 2: 17418, 5: 5333, 3: 5102, 6: 3297, 4: 2385, 0: 1100, 7: 2}.items(), key=str
    )
    check_distances(*options, trips=read(TAXI))
    assert rows_of("payment_types_by_year", *options) == [
        (2018, 1, 83380),
        (2018, 2, 35782),
        (2018, 3, 657),
        (2018, 4, 181),
    ]
    assert [distance for distance, _ in rows_of("longest_trips", *options)] == [78.57, 63.3, 56.35, 54.8, 52.95]
    months = rows_of("total_amount_by_month", *options)
    assert (len(months), round(sum(float(str(amount)) for _, amount in months), 2)) == (12, 2404758.39)
    assert rows_of("passengers_by_year", *options)[1] == (1, 2018, 85363)
    assert rows_of("columns_per_row", *options) == [(18, 120012)]
    check_sorted(*options, trips=read(TAXI))


def check_distances(*options: object, trips: Iterator[dict[str, str]]) -> None:
    """Compare the histogram with a count of all distances, and the quantiles with all distances in order."""
    out, _ = run("distance_histogram", "--json", *options)
    rows = json.loads(out)
    distances = sorted(float(trip["distance"]) for trip in trips if trip["distance"])
    miles = Counter(min(int(distance), 20) for distance in distances)
    expected = {"20+" if mile == max(miles) == 20 else mile: miles[mile] for mile in range(min(miles), max(miles) + 1)}
    assert {row["miles"]: row["trips"] for row in rows if row["table"] == "histogram"} == expected
    for row in rows:
        if row["table"] == "quantiles":
            right = distances[int(float(row["quantile"][1:]) / 100 * (len(distances) - 1))]
            assert abs(row["miles"] - right) <= 0.011 * right + 0.0005


def check_sorted(*options: object, trips: Iterator[dict[str, str]]) -> None:
    """Compare all parts in the order of their names with all trips in order."""
    run("sorted_by_distance", *options)
    where = {"local": HOSTS} if options[0] == "--local" else {"inventory": options[1]}
    with Cluster(**where) as cluster:
        keys = sorted(cluster.where("sm://dev/sorted_by_distance/"), key=lambda row: row.name)
        lines = [line for row in keys if "/part/" in row.name for line in cluster.get(row).decode().splitlines()]
    found = [(float(distance), pickup) for distance, pickup in (line.split(",") for line in lines)]
    assert found == sorted((float(trip["distance"]), trip["pickup"]) for trip in trips)


def test_distances_are_counted_and_their_quantiles_found(local_cluster: tuple[str, ...], made_up: Path) -> None:
    check_distances(*local_cluster, "--trips", made_up, trips=read(made_up))


def test_distances_that_are_none_are_not_counted(local_cluster: tuple[str, ...], tmp_path: Path) -> None:
    trips = tmp_path / "none"
    trips.mkdir()
    (trips / "a.csv").write_text("trip_distance\n")
    assert rows_of("distance_histogram", *local_cluster, "--trips", trips) == []
    (trips / "a.csv").write_text("trip_distance\nnan\n2.5\n")
    rows = rows_of("distance_histogram", *local_cluster, "--trips", trips)
    # the last row is one of 20 miles and more only if there are such trips
    assert rows[0] == ("histogram", 2, 1)
    assert len(rows) == 11


def as_published_since_2022(path: Path) -> None:
    """Write a file of trips again, as Parquet with the types that the agency gives its columns."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, skipinitialspace=True)
    columns = dict(zip(header, zip(*(row for row in rows if len(row) >= len(header)), strict=True), strict=True))

    def typed(name: str, values: tuple[str, ...]) -> pa.Array:
        if name.endswith("_datetime"):
            return pa.array(map(dt.datetime.fromisoformat, values), pa.timestamp("us"))
        whole = name in {"VendorID", "payment_type"}
        return pa.array([(int(value) if whole else float(value)) if value else None for value in values])

    table = pa.table({name: typed(name, values) for name, values in columns.items()})
    parquet.write_table(table, path.with_suffix(".parquet"))
    path.unlink()


def test_parquet_gives_what_csv_gives(local_cluster: tuple[str, ...], made_up: Path) -> None:
    recipes = [*ANSWERS, "distance_histogram"]
    before = {recipe: sorted(rows_of(recipe, *local_cluster, "--trips", made_up), key=str) for recipe in recipes}
    counts = rows_of("passenger_counts", *local_cluster, "--data", made_up)
    (path,) = made_up.glob("*2015-01*")
    as_published_since_2022(path)
    for recipe in recipes:
        assert sorted(rows_of(recipe, *local_cluster, "--trips", made_up), key=str) == before[recipe]
    assert rows_of("passenger_counts", *local_cluster, "--data", made_up) == counts
    (made_up / "only").mkdir()
    path.with_suffix(".parquet").rename(made_up / "only" / "a.parquet")
    ((width, rows),) = rows_of("columns_per_row", *local_cluster, "--trips", made_up / "only")
    assert (width, rows) == (9, 301)


def test_columns_are_counted_as_the_csv_module_counts_them(local_cluster: tuple[str, ...], made_up: Path) -> None:
    counts: Counter[int] = Counter()
    for path in made_up.iterdir():
        with path.open(newline="") as file:
            counts.update(len(row) for row in csv.reader(file))
    assert rows_of("columns_per_row", *local_cluster, "--trips", made_up) == sorted(counts.items())


@pytest.mark.parametrize("parts", [1, 5])
def test_parts_in_the_order_of_their_names_are_all_trips_in_the_order_of_distance(
    local_cluster: tuple[str, ...], made_up: Path, parts: int
) -> None:
    run("sorted_by_distance", *local_cluster, "--trips", made_up, "--parts", parts)
    with Cluster(local=HOSTS) as cluster:
        keys = sorted(cluster.where("sm://dev/sorted_by_distance/"), key=lambda row: row.name)
        contents = [cluster.get(row).decode() for row in keys if "/part/" in row.name]
    assert len(contents) == parts
    lines = [line for content in contents for line in content.splitlines()]
    expected = sorted((float(trip["distance"]), trip["pickup"]) for trip in read(made_up))
    assert [(float(distance), pickup) for distance, pickup in (line.split(",") for line in lines)] == expected
    sizes = [len(content.splitlines()) for content in contents]
    assert max(sizes) < 2 * sum(sizes) / parts


def test_files_that_are_packed_are_opened_on_the_way(local_cluster: tuple[str, ...], made_up: Path) -> None:
    before = rows_of("total_amount_by_month", *local_cluster, "--trips", made_up)
    subprocess.run(["gzip", *made_up.glob("*2009*")], check=True)
    assert rows_of("total_amount_by_month", *local_cluster, "--trips", made_up) == before


def test_picture_has_a_bar_for_each_row(local_cluster: tuple[str, ...], made_up: Path) -> None:
    out, _ = run("total_amount_by_month", *local_cluster, "--trips", made_up)
    table, picture = (part.splitlines() for part in out.split("\n\n"))
    assert [line.split()[0] for line in picture] == [line.split()[0] for line in table[1:]]
    assert max(line.count("█") for line in picture) == 60


@pytest.mark.parametrize("recipe", ["passengers_by_year", "sorted_by_distance"])
def test_files_without_trips_leave_nothing_of_the_trips_before(
    recipe: str, local_cluster: tuple[str, ...], made_up: Path
) -> None:
    run(recipe, *local_cluster, "--trips", made_up)
    for path in made_up.iterdir():
        path.write_text(path.read_text().splitlines()[0] + "\n")
    out, said = run(recipe, *local_cluster, "--trips", made_up, "--json")
    assert out in {"[]\n", ""}
    assert "deleted whose input is gone" in said
    with Cluster(local=HOSTS) as cluster:
        left = {row.name.split("/")[5] for row in cluster.where(f"sm://dev/{recipe}/")}
    assert left <= {"trips", "sample", "samples", "bounds"}


def test_step_whose_needs_are_missing_is_refused(local_cluster: tuple[str, ...], made_up: Path) -> None:
    run("sorted_by_distance", *local_cluster, "--trips", made_up)
    with Cluster(local=HOSTS) as cluster:
        (bounds,) = [row for row in cluster.where("sm://dev/") if "/bounds/" in row.name]
        cluster.rm(bounds.name)
        before = {row.name: row.digest for row in cluster.where("sm://dev/")}
        argv: list[str | Path] = [sys.executable, REPOSITORY / "recipes" / "sorted_by_distance.py", *local_cluster]
        argv += ["--trips", made_up, "--from", "split"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 2
        assert "step split needs the one key of bounds, which has 0" in done.stderr
        assert {row.name: row.digest for row in cluster.where("sm://dev/")} == before


def test_file_without_a_column_is_named_with_what_it_has(local_cluster: tuple[str, ...], made_up: Path) -> None:
    (made_up / "weather.csv").write_text("day,rain\n1,2\n")
    argv: list[str | Path] = [
        sys.executable,
        REPOSITORY / "recipes" / "total_amount_by_month.py",
        *local_cluster,
        "--trips",
        made_up,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "weather.csv" in done.stderr
    assert "in the header: day,rain" in done.stderr


def test_recipes_give_the_same_on_hosts_reached_by_ssh(
    sshd_hosts: SshdHosts, made_up: Path, clean_environment: None
) -> None:
    sshd_hosts.add(3)
    inventory = sshd_hosts.write(sshd_hosts.inventory("openssh", workers=1))
    with Cluster(inventory) as cluster:
        _, failures = cluster.up()
        assert not failures
        for recipe, answer in ANSWERS.items():
            found = rows_of(recipe, "-i", inventory, "--trips", made_up)
            assert sorted(found, key=str) == sorted(answer(read(made_up)), key=str)
        check_distances("-i", inventory, "--trips", made_up, trips=read(made_up))
        cluster.down(purge=True)
