"""A day's revenue: the mail that fails, the service that changed, the run that comes late, the schema that changed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.recipe.files import dataset_of
from tests.servers import Mailbox, Page, Web, serving

RECIPE = Path(__file__).parents[2] / "recipes" / "exchange_rates.py"
HOSTS, LIMIT = 2, 60
RATES = {"USD": 1.25, "GBP": 0.8}
#: of each day: currency and amount
ORDERS = {
    "2018-12-01": [("EUR", "10.00"), ("USD", "2.50"), ("USD", "5.01"), ("GBP", "8.00")],
    "2018-12-02": [("EUR", "1.00")],
    "2018-12-03": [("USD", "1.25")],
}


class Shop:
    """A shop's orders, the service that has the rates, and who is told.

    Args:
        folder: an empty directory.
        web: the service.
    """

    def __init__(self, folder: Path, web: Web) -> None:
        self.folder, self.web = folder, web
        self.orders, self.database = folder / "orders", folder / "shop.sqlite"
        self.orders.mkdir()
        for day, orders in ORDERS.items():
            for part in range(2):
                rows = [f"{day}{part}{n},{day}T1{n}:00,{c},{amount}" for n, (c, amount) in enumerate(orders[part::2])]
                # one order of the day before, which came late
                rows.append(f"{day}{part}x,2018-11-30T23:59,EUR,999.99")
                (self.orders / f"orders-{day}-{part}.csv").write_text("\n".join(["id,time,currency,amount", *rows, ""]))
            web.pages[day] = Page(
                content=json.dumps({"base": "EUR", "date": day, "rates": RATES}).encode(), etag=f'"{day}"'
            )

    def type(self, day: str, *options: object) -> subprocess.CompletedProcess[str]:
        """Run the recipe to its end."""
        argv = [
            sys.executable, RECIPE, "--local", HOSTS, "--orders", self.orders, "--api", self.web.url("{date}?base=EUR"),
            "--database", self.database, "--json", "--date", day, *options,
        ]  # fmt: skip
        return subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=LIMIT, check=False)

    def succeed(self, day: str, *options: object) -> str:
        """Run the recipe, which has to succeed; return what it says."""
        done = self.type(day, *options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def rows(self) -> list[tuple[str, str, int, float]]:
        """Day, currency, number of orders and revenue, as they lie in the database."""
        with contextlib.closing(sqlite3.connect(self.database)) as db:
            return db.execute('SELECT day, currency, orders, revenue FROM "revenue" ORDER BY day, currency').fetchall()

    @property
    def fetched(self) -> list[int]:
        """The statuses of what the service has answered."""
        return [status for _, status in self.web.asked]


def expected(day: str) -> list[tuple[str, str, int, float]]:
    """Add a day's orders up."""
    sums: dict[str, list[Decimal]] = {}
    for currency, amount in ORDERS[day]:
        sums.setdefault(currency, []).append(Decimal(amount))
    return [
        (day, name, len(amounts), float(round(sum(amounts) / Decimal(str(RATES.get(name, 1))), 2)))
        for name, amounts in sorted(sums.items())
    ]


@pytest.fixture
def shop(local_state: Path, tmp_path: Path) -> Iterator[Shop]:
    web = Web()
    with serving(web):
        yield Shop(tmp_path, web)


def test_late_run_gives_the_rows_of_its_day_once_however_often_it_is_typed(shop: Shop) -> None:
    for _ in range(3):
        done = shop.type("2018-12-01")
        assert done.returncode == 0, done.stderr
        assert [
            (row["day"], row["currency"], row["orders"], row["revenue"]) for row in json.loads(done.stdout)
        ] == expected("2018-12-01")
        assert shop.rows == expected("2018-12-01")
    assert "nothing ran" in done.stderr
    assert shop.web.asked == [("/2018-12-01?base=EUR", 200)]


def test_backfill_runs_the_gaps_and_says_which(shop: Shop) -> None:
    shop.succeed("2018-12-02")
    span = ("", "--start", "2018-12-01", "--stop", "2018-12-04", "--backfill", "newest")
    assert "gaps: 2018-12-03, 2018-12-01" in shop.succeed(*span)
    assert shop.rows == [row for day in ORDERS for row in expected(day)]
    assert [path for path, _ in shop.web.asked] == [
        f"/{day}?base=EUR" for day in ("2018-12-02", "2018-12-03", "2018-12-01")
    ]
    assert "gaps: none" in shop.succeed(*span)


def test_day_whose_rows_were_not_loaded_is_a_gap(shop: Shop) -> None:
    shop.database.mkdir()
    assert shop.type("2018-12-01").returncode == 2
    shop.database.rmdir()
    said = shop.succeed("", "--start", "2018-12-01", "--stop", "2018-12-02", "--backfill", "oldest")
    assert "gaps: 2018-12-01" in said
    assert "nothing ran" in said
    assert shop.rows == expected("2018-12-01")


def test_mail_that_fails_reruns_nothing_but_itself(shop: Shop) -> None:
    box = Mailbox()
    box.server_close()
    options = ("--mail", "anna@example.org", "--server", box.address)

    def planned() -> tuple[int, int]:
        rows = {row["step"]: row for row in json.loads(shop.type("2018-12-01", "-n", *options).stdout)}
        return sum(row["run"] for row in rows.values()), rows["mail"]["run"]

    assert planned()[1] == 1
    done = shop.type("2018-12-01", *options)
    assert done.returncode == 1
    assert "error: mail of recipe exchange_rates: ConnectionRefusedError" in done.stderr
    assert f"({RECIPE}, line " in done.stderr
    assert "the same command does only this again" in done.stderr
    assert shop.rows == expected("2018-12-01")
    assert planned() == (1, 1)
    box = Mailbox(box.server_address[1])
    with serving(box):
        said = shop.succeed("2018-12-01", *options)
        assert "nothing ran" in said
        assert "mail: done" in said
        assert planned() == (0, 0)
        assert "mail: was done already" in shop.succeed("2018-12-01", *options)
    (mail,) = box.mails
    assert "Subject: Revenue of 2018-12-01: 26.01" in mail
    assert shop.fetched == [200]


def test_mail_is_sent_again_when_the_rows_are_others(shop: Shop) -> None:
    box = Mailbox()
    with serving(box):
        options = ("--mail", "anna@example.org", "--server", box.address)
        shop.succeed("2018-12-01", *options)
        with (shop.orders / "orders-2018-12-01-0.csv").open("a") as file:
            file.write("late,2018-12-01T23:00,EUR,1.00\n")
        shop.succeed("2018-12-01", *options)
    assert [mail.partition("Subject: ")[2].partition("\n")[0].strip() for mail in box.mails] == [
        "Revenue of 2018-12-01: 26.01", "Revenue of 2018-12-01: 27.01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"base": "EUR", "date": "2018-12-01", "quotes": RATES},
            "the service's answer has changed, there are no rates in it",
        ),
        ({"base": "EUR", "date": "2018-12-03", "rates": RATES}, "these are rates of 2018-12-03, not of 2018-12-01"),
        ([1], "the service's answer has changed"),
        (
            {"base": "EUR", "date": "2018-12-01", "rates": {"USD": 1.25}},
            "no rate of GBP on 2018-12-01; there are EUR, USD",
        ),
    ],
)
def test_service_that_has_changed_loads_nothing_and_is_asked_again_when_told(
    shop: Shop, answer: object, said: str
) -> None:
    right = shop.web.pages["2018-12-01"]
    shop.web.pages["2018-12-01"] = Page(content=json.dumps(answer).encode(), etag='"odd"')
    done = shop.type("2018-12-01")
    assert done.returncode == 1
    with Cluster(local=HOSTS) as cluster:
        failures = [
            row.stderr
            for run in cluster.jobs()
            if dataset_of(str(shop.orders)) in run.outdir
            for _, row in cluster.attempts(run.run, failed=True, stderr=True)
        ]
    assert said in "".join(text if isinstance(text, str) else text.decode() for text in failures)
    assert not shop.database.exists()
    # what was fetched is kept, also if it is odd
    assert shop.type("2018-12-01").returncode == 1
    assert shop.fetched == [200]
    shop.web.pages["2018-12-01"] = right
    shop.succeed("2018-12-01", "--refetch")
    assert shop.rows == expected("2018-12-01")
    assert "has not changed" in shop.succeed("2018-12-01", "--refetch")
    assert shop.fetched == [200, 200, 304]


def test_schema_that_has_changed_is_refused_with_the_difference(shop: Shop) -> None:
    shop.succeed("2018-12-01")
    with contextlib.closing(sqlite3.connect(shop.database)) as db:
        db.execute('ALTER TABLE "revenue" RENAME COLUMN "rate" TO "price"')
    done = shop.type("2018-12-02")
    assert done.returncode == 4
    assert "table revenue does not fit: column price is gone; new column rate" in done.stderr
    assert shop.rows == expected("2018-12-01")
    with contextlib.closing(sqlite3.connect(shop.database)) as db:
        db.execute('ALTER TABLE "revenue" DROP COLUMN "price"')
    assert shop.type("2018-12-02").returncode == 4
    shop.succeed("2018-12-02", "--migrate")
    assert shop.rows == expected("2018-12-01") + expected("2018-12-02")
