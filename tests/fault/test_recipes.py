"""Each recipe is interrupted at random times, by Ctrl-C and by kill -9, and typed again until it ends: promises 4, 5, 10 and 13.

The times are spread over what an undisturbed run takes. Each interrupt hits a run that is still going on: where one has ended
before, the recipe begins anew in another environment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sshmap import Cluster
from sshmap.model import AttemptEnd
from sshmap.store.layout import Root
from tests.conftest import end_processes, processes_below, wait_until
from tests.fault.nights import FAULTS, GONE_WITHIN, NIGHT, dice_of, ending_of
from tests.fault.table import SEED, TABLE, Row
from tests.integration import fleet
from tests.kills import Client, is_over_after
from tests.servers import Mailbox, Page, Web, serving

FOLDER = Path(__file__).parents[2] / "recipes"
#: found by themselves: one that takes its files otherwise than as `--trips` has to be named in `OPTIONS`
RECIPES = [path.stem for path in sorted(FOLDER.glob("*.py")) if "\n@recipe\n" in path.read_text(encoding="utf-8")]
HOSTS = 2
#: interrupts of each recipe in each way, and starts after which they have to have hit it
TIMES = max(2, min(10, FAULTS // 50))
STARTS = 10 * TIMES
#: the last part of an undisturbed run that is interrupted
END = 0.95
#: seconds that one run may take
LIMIT = 120.0
MONTHS, TRIPS = 18, 2500
DAY, PARTS, ORDERS = "2018-12-01", 18, 2500
RATES = {"USD": 1.25, "GBP": 0.8}

pytestmark = pytest.mark.timeout(NIGHT)


class Way(NamedTuple):
    """How a run is interrupted."""

    strike: Callable[[int], None]
    #: what it may end with; it may also have ended by itself when it is struck
    codes: frozenset[int]
    #: whether the hosts are to stop as well
    cancels: bool


WAYS = {
    "Ctrl-C": Way(lambda pid: os.kill(pid, signal.SIGINT), frozenset({0, 130}), cancels=True),
    "Ctrl-C at a terminal": Way(lambda pid: os.killpg(pid, signal.SIGINT), frozenset({0, 130}), cancels=True),
    "kill -9": Way(lambda pid: os.kill(pid, signal.SIGKILL), frozenset({0, -signal.SIGKILL}), cancels=False),
}


class Made(NamedTuple):
    """What a recipe has made in one environment."""

    rows: object
    #: digests of its keys by their names below the environment
    keys: dict[str, bytes]
    #: what it has loaded
    loaded: list[tuple[object, ...]]


class Bench:
    """A recipe with files, a local cluster that is up, a web server and a mail server.

    Args:
        recipe: its name.
        cluster: the cluster.
        folder: an empty directory.
        web: has rates.
        box: takes mails.
    """

    def __init__(self, recipe: str, cluster: Cluster, folder: Path, web: Web, box: Mailbox) -> None:
        self._recipe, self._cluster, self._folder, self.web, self.box = recipe, cluster, folder, web, box
        self._roots = [Root(host.root) for host in cluster.inventory.hosts]
        self._options = OPTIONS.get(recipe, taxi_recipe)(self)
        self.expected = self.made("calm", self.run_in_peace("calm"))
        assert self.expected.keys
        #: number of deeds of one run
        self.once = self.deeds()
        # what the first run has found out or started is there for all others
        began = time.monotonic()
        assert self.made("still", self.run_in_peace("still")) == self.expected
        self.seconds = time.monotonic() - began

    def run_in_peace(self, env: str) -> bytes:
        """Run the recipe to its end, and return what it printed."""
        with self.start(env) as process:
            out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err.decode()
        return out

    def trips(self) -> Path:
        """Write trips."""
        folder = self._folder / "files"
        argv = [sys.executable, str(FOLDER / "trips.py"), str(folder), "--months", str(MONTHS), "--trips", str(TRIPS)]
        subprocess.run(argv, check=True, timeout=LIMIT)
        return folder

    def orders(self) -> Path:
        """Write a day's orders."""
        folder, dice = self._folder / "files", random.Random(0)
        folder.mkdir()
        for part in range(PARTS):
            rows = [
                f"{part}-{n},{DAY}T12:00,{dice.choice(['EUR', *RATES])},{dice.randrange(1, 9999) / 100}"
                for n in range(ORDERS)
            ]
            (folder / f"orders-{DAY}-{part:02}.csv").write_text("\n".join(["id,time,currency,amount", *rows, ""]))
        return folder

    def start(self, env: str) -> Client:
        """Start the recipe in an environment, in a process group of its own."""
        argv = [
            sys.executable, FOLDER / f"{self._recipe}.py", "--local", HOSTS, "--json", "--env", env,
            "--database", self._database(env), *self._options,
        ]  # fmt: skip
        return subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def _database(self, env: str) -> Path:
        return self._folder / f"{env}.sqlite"

    def deeds(self) -> tuple[int, ...]:
        """Return how many mails were sent, and how often the web server was asked."""
        return len(self.box.mails), len(self.web.asked)

    def made(self, env: str, out: bytes) -> Made:
        """Return what lies in an environment, where a run has printed something at its end."""
        prefix = f"sm://{env}/"
        rows = self._cluster.where(prefix)
        keys = {row.name.removeprefix(prefix): row.digest for row in rows if "/.recipe/" not in row.name}
        return Made(json.loads(out) if out else None, keys, self._loaded(env))

    def _loaded(self, env: str) -> list[tuple[object, ...]]:
        if not self._database(env).exists():
            return []
        with contextlib.closing(sqlite3.connect(self._database(env))) as db:
            tables = [
                name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            ]
            return [row for table in tables for row in sorted(db.execute(f'SELECT * FROM "{table}"').fetchall())]

    def has_begun(self, code: int, err: str) -> bool:
        """Say, by how an interrupted run has ended, whether it had imported what it needs, and called `main`."""
        by_python = "KeyboardInterrupt" in err and f"{self._recipe}.main()" not in err
        by_kernel = code == -signal.SIGINT and not err
        return not (by_python or by_kernel)

    def attempts(self, env: str) -> list[tuple[str, AttemptEnd | None]]:
        """Return the task and the end of each attempt in an environment."""
        runs = [run for run in self._cluster.jobs() if run.outdir.startswith(f"sm://{env}/")]
        return [
            (f"{run.outdir}{row.key}", row.outcome)
            for run in runs
            for _, row in self._cluster.attempts(run.run)
            if row.attempt
        ]

    def is_idle(self, env: str) -> bool:
        """Say whether nothing runs on any host; the interpreters that call functions stay for the next ones."""
        commands = [said for root in self._roots for said in fleet.commands_of(root).values()]
        return all("runner.py" in said for said in commands) and all(end for _, end in self.attempts(env))


def taxi_recipe(bench: Bench) -> tuple[object, ...]:
    return "--trips", bench.trips()


def exchange_rates(bench: Bench) -> tuple[object, ...]:
    rates = {"base": "EUR", "date": DAY, "rates": RATES}
    bench.web.pages[DAY] = Page(content=json.dumps(rates).encode(), etag='"1"')
    return (
        "--orders", bench.orders(), "--api", bench.web.url("{date}"), "--date", DAY,
        "--mail", "anna@example.org", "--server", bench.box.address,
    )  # fmt: skip


#: by recipe: makes what it works on, and returns its options
OPTIONS: dict[str, Callable[[Bench], tuple[object, ...]]] = {
    "passenger_counts": lambda bench: ("--data", bench.trips()),
    "exchange_rates": exchange_rates,
}


@pytest.fixture
def make_bench(clean_environment: None, tmp_path: Path) -> Iterator[Callable[[str], Bench]]:
    """Makes the bench of a recipe; nothing of it is left running when its cluster is stopped."""
    web, box, state = Web(), Mailbox(), tmp_path / "state"
    # what is started in the background by a shell ignores SIGINT, and so would the recipes
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with serving(web), serving(box), Cluster(local=HOSTS) as cluster:
        cluster.up()
        try:
            yield lambda recipe: Bench(recipe, cluster, tmp_path, web, box)
            cluster.down(purge=True)
            wait_until(lambda: not processes_below(state), what="processes are left")
        finally:
            signal.signal(signal.SIGINT, before)
            end_processes(state)


class Interrupts:
    """What is done to a recipe at times that the dice choose, one in each part of the time that it takes.

    Args:
        bench: the recipe.
        way: how it is interrupted.
        dice: choose.
        row: where interrupts are counted.
    """

    def __init__(self, bench: Bench, way: Way, dice: random.Random, row: Row) -> None:
        self._bench, self._way, self._row = bench, way, row
        #: as parts of an undisturbed run, whose end may come a little sooner than last time
        self.times = [END * (part + dice.random()) / TIMES for part in range(TIMES)]
        dice.shuffle(self.times)
        self._seconds = bench.seconds
        self._starts = 0

    def run(self, env: str) -> tuple[bytes, int]:
        """Start the recipe and interrupt it until it ends by itself; return what it printed then, and how often it was hit."""
        began = time.monotonic()
        for hits in itertools.count():
            self._starts += 1
            code, out = self._start(env)
            if code == 0:
                if not hits:
                    self._seconds = time.monotonic() - began
                return out, hits
        raise AssertionError

    @property
    def are_over(self) -> bool:
        """Say whether it was interrupted often enough.

        Raises:
            AssertionError: it ends too soon, again and again.
        """
        assert self._starts < STARTS, f"it ends before it can be interrupted at {self.times} of {self._seconds} s"
        return not self.times

    def _start(self, env: str) -> tuple[int, bytes]:
        """Start the recipe, interrupt it, and return how it ended, and what it printed."""
        with self._bench.start(env) as process:
            try:
                if is_hit := bool(self.times) and not is_over_after(process, self.times[-1] * self._seconds):
                    self.times.pop()
                    self._way.strike(process.pid)
                out, said = process.communicate(timeout=LIMIT)
            finally:
                process.kill()
        code, err = process.returncode, said.decode()
        wait_until(lambda: not group(process.pid), limit=GONE_WITHIN, what=f"{group(process.pid)} are left")
        if is_hit and self._way.cancels and not self._bench.has_begun(code, err):
            # Python itself ends a script that is still importing, by SIGINT, which a shell shows as 130
            self._row.take("ended before it began")
            return code, out
        assert code in (self._way.codes if is_hit else {0}), (code, err)
        assert "Traceback" not in err, err
        if code == 130:
            wait_until(lambda: self._bench.is_idle(env), limit=GONE_WITHIN, what="something outlives Ctrl-C")
        if is_hit:
            self._row.take(ending_of(code))
        return code, out


def group(leader: int) -> dict[int, str]:
    """Return the living processes of a process group."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(entry.name)) == leader and fleet.is_alive(int(entry.name)):
                found[int(entry.name)] = fleet.arguments_of(int(entry.name))
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_interrupted_recipe_typed_again_makes_what_it_makes_in_peace(
    make_bench: Callable[[str], Bench], recipe: str, way: str
) -> None:
    row = TABLE.add(f"{way} of {recipe}", "4 5 10 13")
    bench = make_bench(recipe)
    interrupts = Interrupts(bench, WAYS[way], dice_of(f"{way} {recipe}"), row)
    for number in itertools.count():
        if interrupts.are_over:
            break
        env = f"env-{number}"
        with row.watched(f"FAULT_SEED={SEED} {row.fault}, {env}"):
            before = bench.deeds()
            out, hits = interrupts.run(env)
            assert bench.made(env, out) == bench.expected
            check_attempts(bench.attempts(env), WAYS[way], row)
            check_deeds(bench, before, hits)
    with row.watched(f"{row.fault}, when all is done"):
        before, attempts = bench.deeds(), bench.attempts(env)
        bench.run_in_peace(env)
        assert (bench.deeds(), bench.attempts(env)) == (before, attempts)
    row.check()


def check_attempts(attempts: list[tuple[str, AttemptEnd | None]], way: Way, row: Row) -> None:
    """Look that nothing was done twice: what Ctrl-C cancels is not done, and a kill of the client does not reach the hosts."""
    ends = Counter(end for _, end in attempts)
    done = Counter(task for task, end in attempts if end is AttemptEnd.DONE)
    assert not [task for task, count in done.items() if count > 1]
    if not way.cancels:
        assert ends == {AttemptEnd.DONE: len(done)}, ends
    row.outcomes.update({"tasks begun again": ends[AttemptEnd.CANCELLED]} if way.cancels else {})


def check_deeds(bench: Bench, before: tuple[int, ...], hits: int) -> None:
    """Look that mails were sent and pages fetched, again only where an interrupt came between that and the note of it."""
    for once, first, last in zip(bench.once, before, bench.deeds(), strict=True):
        assert once <= last - first <= once * (1 + hits), (once, last - first, hits)
