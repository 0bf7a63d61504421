"""What a report says about a run, added up from its attempts as they come; pure. Memory is bounded, however many there are.

A command's time is what its host measured. An attempt of which that is not known, because its worker died or its input
changed, is drawn from when it was claimed to its end, and its worker does not count as busy then: a worker claims several
quick tasks at once. Each host's clock is its own, and nothing here mends that.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from sshmap.client.rates import Rates
from sshmap.model import AttemptEnd, TaskState
from sshmap.protocol.messages import AttemptRow

#: bars, slowest attempts, failed ones, and workers that a report shows at most
MOST_BARS, MOST_SLOWEST, MOST_FAILED, MOST_WORKERS = 100_000, 50, 200, 4096
#: bytes of what a failed attempt said, and characters of a name
MOST_SAID, MOST_NAME = 8192, 160
#: what bars are coloured by
MARKS = ("done", "failed", "cancelled", "running", "sending", "lost", "overtaken", "returned")
#: marks of attempts that are drawn to their end where nobody measured their command
_TO_THE_END = (AttemptEnd.LOST, AttemptEnd.OVERTAKEN)
#: the last second that a calendar can show
_LAST = 253_402_300_799


class Bar(msgspec.Struct, frozen=True):
    """An attempt as it is drawn."""

    #: seconds since 1970
    began: float
    seconds: float
    #: place in `MARKS`
    mark: int
    attempt: int
    key: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as a table shows it."""

    host: str
    slot: int
    key: str
    attempt: int
    mark: str
    began: float
    seconds: float
    cpu: float
    peak: int
    received: int
    made: int
    exit_code: int = 0
    message: str = ""
    stderr: str = ""


class Worker(msgspec.Struct, kw_only=True):
    """What one worker of a host did."""

    tasks: int = 0
    #: seconds that its finished commands took, and the longest of those that run
    busy: float = 0.0
    running: float = 0.0


class HostFigures(msgspec.Struct, kw_only=True):
    """What one host did."""

    #: attempts that are done or failed
    tasks: int = 0
    failed: int = 0
    #: bytes
    received: int = 0
    made: int = 0
    peak: int = 0
    #: seconds
    cpu: float = 0.0
    #: when its last command ended, in seconds since 1970
    last: float = 0.0
    workers: dict[int, Worker] = {}

    @property
    def busy(self) -> float:
        """Seconds that its workers ran commands."""
        return sum(worker.busy + worker.running for worker in self.workers.values())


class Sample:
    """Bars of each worker, evenly thinned to a number of them: each second one goes when there are more.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: by worker: how many there were, and those that are kept, with their places
        self._seen: Counter[tuple[str, int]] = Counter()
        self._bars: dict[tuple[str, int], list[tuple[int, Bar]]] = {}
        self.kept, self.every = 0, 1

    def add(self, worker: tuple[str, int], bar: Bar) -> None:
        """Add a bar."""
        place = self._seen[worker]
        self._seen[worker] += 1
        if place % self.every == 0:
            self._bars.setdefault(worker, []).append((place, bar))
            self.kept += 1
            if self.kept > self._most:
                self.thin()

    def thin(self) -> None:
        """Let each second bar of each worker go."""
        self.every *= 2
        for worker, bars in self._bars.items():
            self._bars[worker] = [(place, bar) for place, bar in bars if place % self.every == 0]
        self.kept = sum(map(len, self._bars.values()))

    def of(self, worker: tuple[str, int]) -> list[Bar]:
        """Return the bars of a worker that are kept."""
        return [bar for _, bar in self._bars.get(worker, ())]


class Figures:
    """What is added up of one run.

    Args:
        hosts: names of those that know the run, in the order in which they are shown.
        now: seconds since 1970.
        most_bars: how many bars are kept.
    """

    def __init__(self, hosts: Iterable[str], now: float, most_bars: int = MOST_BARS) -> None:
        self.hosts = {host: HostFigures() for host in hosts}
        self.marks: Counter[str] = Counter()
        self.rates = Rates()
        #: when the first command began and the last one ended, in seconds since 1970
        self.first, self.last = math.inf, 0.0
        #: attempts of workers beyond the most that are shown
        self.undrawn = 0
        self._now, self._most = now, most_bars
        # what did not go well is rare, and nobody would find it if it was thinned as the rest is
        self._done, self._other = Sample(most_bars), Sample(most_bars)
        self._slowest: list[tuple[float, int, Shown]] = []
        self._failed: dict[str, list[Shown]] = {}
        self._workers = 0

    def take(self, host: str, row: AttemptRow) -> None:
        """Add an attempt; a task that has none is passed over."""
        mark = row.outcome.value if row.outcome else row.state.value
        if mark not in MARKS or not row.attempt:
            return
        self.marks[mark] += 1
        began, seconds = times(row, self._now)
        counted = seconds * (row.ran > 0 or mark == "running")
        self._add_up(self.hosts[host], row, mark, counted)
        if began:
            self.first, self.last = min(self.first, began), max(self.last, began + seconds)
            self.hosts[host].last = max(self.hosts[host].last, began + seconds)
            if counted:
                self.rates.ran(began, counted)
            if mark in ("done", "failed"):
                self.rates.ended(began + seconds, failed=mark == "failed")
            self._draw(host, row, Bar(began, seconds, MARKS.index(mark), row.attempt, short(row.key)))
        if counted:
            self._keep_slowest(counted, host, row)

    def _keep_slowest(self, seconds: float, host: str, row: AttemptRow) -> None:
        """Keep an attempt if it is one of the slowest so far."""
        if len(self._slowest) < MOST_SLOWEST or seconds > self._slowest[0][0]:
            heapq.heappush(self._slowest, (seconds, -sum(self.marks.values()), shown(host, row, self._now)))
            if len(self._slowest) > MOST_SLOWEST:
                heapq.heappop(self._slowest)

    def _add_up(self, host: HostFigures, row: AttemptRow, mark: str, counted: float) -> None:
        host.tasks += mark in ("done", "failed")
        host.failed += mark == "failed"
        host.received += row.received
        host.made += row.made
        host.peak = max(host.peak, row.peak)
        host.cpu += _seconds(row.user) + _seconds(row.system)
        if row.slot not in host.workers:
            if self._workers >= MOST_WORKERS:
                return
            self._workers += 1
        worker = host.workers.setdefault(row.slot, Worker())
        worker.tasks += mark in ("done", "failed")
        if mark == "running":
            worker.running = max(worker.running, counted)
        else:
            worker.busy += counted

    def _draw(self, host: str, row: AttemptRow, bar: Bar) -> None:
        if row.slot not in self.hosts[host].workers:
            self.undrawn += 1
            return
        (self._other if bar.mark else self._done).add((host, row.slot), bar)

    def take_failed(self, host: str, row: AttemptRow) -> bool:
        """Add a failed attempt with what it said; return whether more of this host are wanted.

        Where there are too many, the host that has most of them gives one up.
        """
        self._failed.setdefault(host, []).append(shown(host, row, self._now))
        if sum(map(len, self._failed.values())) <= MOST_FAILED:
            return True
        most = max(self._failed, key=lambda name: len(self._failed[name]))
        self._failed[most].pop()
        return most != host

    def failed(self) -> list[Shown]:
        """Return failed attempts, host by host."""
        return [row for host in self.hosts for row in self._failed.get(host, ())]

    def slowest(self) -> list[Shown]:
        """Return the slowest attempts, the slowest first."""
        return [row for _, _, row in sorted(self._slowest, reverse=True)]

    def bars(self) -> dict[tuple[str, int], list[Bar]]:
        """Return the bars of each worker in the order of their beginning, at most as many as are allowed."""
        while self._done.kept + self._other.kept > self._most:
            max(self._done, self._other, key=lambda sample: sample.kept).thin()
        workers = [(host, slot) for host, figures in self.hosts.items() for slot in sorted(figures.workers)]
        return {
            worker: sorted(self._done.of(worker) + self._other.of(worker), key=lambda bar: (bar.began, bar.seconds))
            for worker in workers
        }


def times(row: AttemptRow, now: float) -> tuple[float, float]:
    """Return when an attempt began, 0 if that is not known, and how many seconds it is drawn to take."""
    began, ended, ran = _time(row.began), _time(row.ended), _seconds(row.ran)
    if ran:
        return began, ran
    if row.outcome is None and row.state is TaskState.RUNNING:
        return began, max(0.0, now - began) if began else 0.0
    if row.outcome in _TO_THE_END and began:
        return began, max(0.0, ended - began)
    # its command was never begun, or nothing is known of its end yet
    return ended or began, 0.0


def shown(host: str, row: AttemptRow, now: float) -> Shown:
    """Write an attempt as a table shows it."""
    began, seconds = times(row, now)
    return Shown(
        host=host, slot=row.slot, key=short(row.key, 4 * MOST_NAME), attempt=row.attempt, began=began, seconds=seconds,
        mark=row.outcome.value if row.outcome else row.state.value, cpu=_seconds(row.user) + _seconds(row.system),
        peak=row.peak, received=row.received, made=row.made, exit_code=row.exit_code, message=short(row.message, MOST_SAID),
        stderr=_said(row.stderr),
    )  # fmt: skip


def short(text: str, most: int = MOST_NAME) -> str:
    """Leave out the middle of a text that is too long."""
    return text if len(text) <= most else f"{text[: most // 4]}…{text[len(text) - most + most // 4 + 1 :]}"


def _said(stderr: bytes) -> str:
    if len(stderr) > MOST_SAID:
        stderr = stderr[: MOST_SAID // 2] + "\n…\n".encode() + stderr[-MOST_SAID // 2 :]
    return stderr.decode("utf-8", "replace")


def _time(value: float) -> float:
    """Return a time that a host states, or 0 where it cannot be one."""
    return value if 0 < value < _LAST else 0.0


def _seconds(value: float) -> float:
    return value if 0 < value < _LAST else 0.0
