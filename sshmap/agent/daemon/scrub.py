"""The scrub: the daemon reads every key once in a while against its digest, slowly, and tells what is damaged.

It reads while no task is unfinished, as much as is due by the time that its round has lasted, in steps of some
milliseconds, and for a tenth of the time at most where it has fallen behind. How far the round is lies in the ledger, so
that it goes on after a restart. What it finds stands in the host's status and in the daemon's log. It mends nothing and
puts nothing aside.

It has a thread of its own beside the courier's, as a disk that is about to fail may take seconds to read a sector, for
which no fan-out file should have to wait.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from sshmap.errors import SshmapError
from sshmap.model import show
from sshmap.store.commit import Store
from sshmap.store.damages import Damages, Round, Rounds
from sshmap.store.integrity import Found, Step, read_keys
from sshmap.store.jobs import Jobs
from sshmap.store.layout import Root
from sshmap.store.ledger import mapped

#: seconds that one step reads, and what part of the time is spent on reading at most
SLICE, SHARE = 0.02, 0.1
#: seconds between two looks while tasks are unfinished, at most while nothing is due, and after a failure
BUSY, LONGEST, AFTER_FAILURE = 5.0, 30.0, 60.0
#: what a key costs beside its bytes, in bytes
PER_KEY = 4096
#: seconds between two notes of how far the round is
_SAVE = 10.0


def write_log(text: str) -> None:
    """Write a line to the daemon's log."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    sys.stderr.write(f"{stamp} scrub: {text}\n")
    sys.stderr.flush()


class Scrub:
    """The rounds over one host's keys, step by step.

    Args:
        store: the host's keys.
        clock: returns seconds since 1970.
        log: takes a line for the daemon's log.
    """

    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, log: Callable[[str], None] = write_log
    ) -> None:
        self._store, self._clock, self._log = store, clock, log
        self._jobs, self._damages, self._rounds = Jobs(store.ledger), Damages(store.ledger), Rounds(store.ledger)
        self._round = self._rounds.newest()
        self._saved = clock()
        #: the last key of which the damage was noted, and what was found behind it
        self._settled = self._round.after if self._round else ""
        self._found: list[Found] = []
        self._steps: Iterator[Step] | None = None
        #: bytes that were read of the key that is being read
        self._reading = 0

    def step(self, period: float) -> float:
        """Read a little if that is due; return the seconds until the next step.

        Args:
            period: seconds in which each key is to be read once.
        """
        if self._jobs.active():
            return BUSY
        now = self._clock()
        if self._round is None or (self._round.ended and now >= self._round.began + period):
            self._begin(now)
        assert self._round is not None
        if self._round.began > now:
            # the clock was set back; what was read by then counts
            self._round = msgspec.structs.replace(self._round, began=now)
        if (wait := self._ahead(period)) > 0:
            self._save(now)
            return min(wait, LONGEST)
        began = time.monotonic()
        self._read(period, began + SLICE)
        return (time.monotonic() - began) * (1 / SHARE - 1)

    def _begin(self, now: float) -> None:
        there = self._store.keys.total()
        self._round = Round(began=now, total=there.size + there.keys * PER_KEY)
        self._settled, self._steps, self._reading = "", None, 0
        self._rounds.save(self._round)

    def _ahead(self, period: float) -> float:
        """Return the seconds until something is due."""
        assert self._round is not None
        done = (self._round.done + self._reading) / max(1, self._round.total)
        return self._round.began + (1.0 if self._round.ended else min(1.0, done)) * period - self._clock()

    def _read(self, period: float, until: float) -> None:
        """Read on until nothing more is due, or the time is over."""
        assert self._round is not None
        self._steps = self._steps or read_keys(self._store, "", self._round.after)
        for step in self._steps:
            self._reading += step.size
            if step.ended:
                done, self._reading = self._round.done + self._reading + PER_KEY, 0
                self._round = msgspec.structs.replace(self._round, done=done, after=step.name)
            if step.found:
                self._tell(step.found)
            if time.monotonic() > until or self._ahead(period) > 0:
                break
        else:
            self._round = msgspec.structs.replace(self._round, ended=True)
            self._steps = None
        self._save(self._clock())

    def _tell(self, found: Found) -> None:
        self._found.append(found)
        what = "its file is missing" if found.seal is None else "content does not match its digest"
        self._log(f"{ascii(show(found.row.name))[1:-1]}: {what}")

    def _save(self, now: float) -> None:
        """Note what was found at once, and now and then how far the round is."""
        assert self._round is not None
        if not (self._found or self._round.ended or now - self._saved >= _SAVE or now < self._saved):
            return
        if self._round.after > self._settled:
            self._damages.settle("", self._settled, self._round.after, self._found)
            self._settled = self._round.after
            self._found.clear()
        if self._round != self._rounds.newest():
            self._rounds.save(self._round)
        self._saved = now


class Scrubber:
    """The thread that scrubs while that is wanted.

    Args:
        root: the host's root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._period = 0.0
        self._nudge = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, period: float) -> None:
        """Say in how many seconds each key is to be read once; 0 ends the thread."""
        if period != self._period:
            self._period = period
            self._nudge.set()
        if period and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._period:
            try:
                with mapped(self._root), contextlib.closing(Store(self._root)) as store:
                    self._scrub(store)
            except (SshmapError, OSError) as exc:
                write_log(f"{exc}")
                self._wait(AFTER_FAILURE)

    def _scrub(self, store: Store) -> None:
        scrub = Scrub(store)
        while period := self._period:
            self._wait(scrub.step(period))

    def _wait(self, seconds: float) -> None:
        if self._nudge.wait(seconds):
            self._nudge.clear()

    def close(self) -> None:
        """End the thread, once it has read its step."""
        self.tell(0.0)
        if self._thread:
            self._thread.join(LONGEST)
