"""How far something is: a moving display on a terminal, else a line now and then; the only file that knows rich.

rich is loaded when there is a terminal.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sshmap.cli.escaping import clean
from sshmap.cli.printers import human_size, human_time
from sshmap.client.following import JobProgress
from sshmap.client.results import Counted, silent
from sshmap.errors import SshmapError
from sshmap.protocol.messages import Progress

#: repaints a second
_REFRESH = 8
#: seconds after which a line is printed where there is no terminal, and from then on between two of them
_FIRST, _THEN = (10.0, 60.0), 300.0
#: seconds within which most copies are over, so that their totals need not be found out
_SHORT = 1.0
#: slow tasks that are named
_MOST_NAMED = 100


class Manner(enum.Enum):
    """How progress is shown."""

    NONE = "none"
    #: a line now and then
    LINES = "lines"
    #: a display that moves
    DISPLAY = "display"


def manner(*, quiet: bool) -> Manner:
    """Choose: nothing with --quiet, a display where stderr is a terminal that can move its cursor, else lines."""
    if quiet:
        return Manner.NONE
    return Manner.DISPLAY if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" else Manner.LINES


@contextlib.contextmanager
def counting(title: str, how: Manner, *, measure: Callable[[], tuple[int, int]] | None = None) -> Iterator[Counted]:
    """Show keys, bytes and MB/s of a copy and, once the total is known, the time left; yield a function to call at each step.

    Args:
        title: what is copied.
        how: how to show it.
        measure: returns the number and bytes of all keys; called in a thread of its own, and may take its time.
    """
    copied = _Copied(title, measure)
    if how is Manner.NONE:
        yield silent
    elif how is Manner.LINES:
        with _lines(copied.line, copied.measure):
            yield copied.step
    else:
        threading.Thread(target=copied.measure, name="measure", daemon=True).start()
        with _display() as display:
            task = display.add_task(title, total=None, keys="", size=0)

            def step(keys: int, size: int) -> None:
                copied.step(keys, size)
                display.update(
                    task, completed=copied.size, size=copied.size, keys=copied.counted, total=copied.total_size or None
                )

            yield step


class _Copied:
    """How far a copy is."""

    def __init__(self, title: str, measure: Callable[[], tuple[int, int]] | None) -> None:
        self._title, self._measure = title, measure
        self._keys = self._total_keys = 0
        #: bytes so far, and of all; 0 while that is not known
        self.size = self.total_size = 0

    def measure(self) -> None:
        """Find out the total, if that can be; without it, only what was copied is shown."""
        if self._measure:
            with contextlib.suppress(OSError, SshmapError):
                self._total_keys, self.total_size = self._measure()

    def step(self, keys: int, size: int) -> None:
        """Count some more."""
        self._keys += keys
        self.size += size

    @property
    def counted(self) -> str:
        """Number of keys, and of how many."""
        return f"{self._keys}/{self._total_keys}" if self._total_keys else str(self._keys)

    def line(self, seconds: float) -> str:
        """Say how far it is after so many seconds."""
        left = seconds * (self.total_size - self.size) / self.size if 0 < self.size < self.total_size else 0.0
        rest = f", {human_time(left)} left" if left else ""
        return f"{self._title}: {self.counted} keys, {human_size(self.size)}, {human_size(self.size / seconds)}/s{rest}"


@contextlib.contextmanager
def hosts_counted(title: str, total: int, how: Manner) -> Iterator[Counted]:
    """Show how many hosts are done; yield a function to call for each."""
    if how is not Manner.DISPLAY:
        yield silent
        return
    with _display(rated=False) as display:
        task = display.add_task(title, total=total)
        yield lambda hosts, _: display.advance(task, hosts)


@contextlib.contextmanager
def following(title: str, how: Manner, *, each: bool = False) -> Iterator[Callable[[JobProgress], None]]:
    """Show the progress of a job, and name tasks that take much longer than others; yield a function to call with it.

    Args:
        title: what is done.
        how: how to show it.
        each: show a line for each host as well.
    """
    seen, oddities = JobProgress(), Oddities()

    def note(progress: JobProgress) -> None:
        nonlocal seen
        seen = progress
        if how is not Manner.NONE:
            with contextlib.suppress(OSError, ValueError):
                oddities.name(progress, lambda line: sys.stderr.write(f"{line}\n"))

    if how is Manner.NONE:
        yield note
    elif how is Manner.LINES:
        with _lines(lambda seconds: _job_lines(title, seen, seconds, each=each)):
            yield note
    else:
        with _display() as display:
            bars = _Bars(display, title, each=each)

            def update(progress: JobProgress) -> None:
                bars.update(progress)
                # names are no markup, which could colour the text, or raise an error
                oddities.name(
                    progress, lambda line: display.console.print(line, markup=False, highlight=False, emoji=False)
                )

            yield update


class _Bars:
    """The bars of a job: one for all hosts, and if that is wanted one for each.

    Args:
        display: where they are shown.
        title: what is done.
        each: show one for each host.
    """

    def __init__(self, display: Any, title: str, *, each: bool) -> None:  # noqa: ANN401
        self._display, self._title, self._each = display, title, each
        self._tasks: dict[str, Any] = {"": display.add_task(title, total=None, keys="", size=0)}

    def update(self, progress: JobProgress) -> None:
        """Show how far the job is."""
        self._show("", self._title, progress.done, progress.failed, progress.total, progress.size)
        for name, part in sorted(progress.hosts.items()) if self._each else ():
            total = part.queued + part.running + part.sending + part.done + part.failed + part.cancelled
            self._show(name, f"  {name}: {part.running} running", part.done, part.failed, total, part.size)

    def _show(self, name: str, title: str, done: int, failed: int, total: int, size: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._display.add_task(title, total=None, keys="", size=0)
        ended, said = done + failed, f", {failed} failed" if failed else ""
        self._display.update(
            self._tasks[name],
            total=total,
            completed=ended,
            size=size,
            keys=f"{ended}/{total}",
            description=title + said,
        )


class Oddities:
    """Names once each task that takes much longer than the others of its run, and each host whose tasks wait for memory."""

    def __init__(self) -> None:
        self._named: set[tuple[str, str]] = set()

    def name(self, progress: JobProgress, say: Callable[[str], object]) -> None:
        """Name those that were not named yet."""
        for host, part in progress.hosts.items():
            for key, line in _odd(host, part):
                if (host, key) not in self._named and len(self._named) < _MOST_NAMED:
                    self._named.add((host, key))
                    say(clean(line))


def _odd(host: str, part: Progress) -> Iterator[tuple[str, str]]:
    """Go through what is odd about a host's part of a job: what it is about, and a line that says so."""
    if part.short_of_memory:
        yield "", f"tasks on {host} wait for memory, of which {human_size(part.short_of_memory)} are available"
    for slow in part.slow:
        took, median = human_time(slow.seconds), human_time(slow.median)
        yield slow.key, f"slow: {slow.key} on {host} has taken {took}, half of the others took less than {median}"


def _job_lines(title: str, progress: JobProgress, seconds: float, *, each: bool) -> str:
    lines = [_job_line(title, progress, seconds)]
    for name, part in sorted(progress.hosts.items()) if each else ():
        lines.append(
            f"  {name}: {part.done} done, {part.failed} failed, {part.running} running, {part.queued} queued, {human_size(part.size)}"
        )
    return "\n".join(lines)


def _job_line(title: str, progress: JobProgress, seconds: float) -> str:
    ended = progress.done + progress.failed
    left = f", {human_time(seconds * (progress.total - ended) / ended)} left" if 0 < ended < progress.total else ""
    return f"{title}: {ended} of {progress.total} tasks, {progress.failed} failed, {human_size(progress.size)}{left}"


@contextlib.contextmanager
def _lines(text: Callable[[float], str], prepare: Callable[[], None] | None = None) -> Iterator[None]:
    """Print a line on stderr after 10 s, after 1 min, and then every 5 min.

    Args:
        text: returns the line, given the seconds that have passed.
        prepare: called before the first line, unless all is over within a second.
    """
    over, began = threading.Event(), time.monotonic()

    def print_lines() -> None:
        if prepare and not over.wait(_SHORT):
            prepare()
        for moment in itertools.chain(_FIRST, itertools.count(_THEN, _THEN)):
            if over.wait(max(0.0, began + moment - time.monotonic())):
                return
            with contextlib.suppress(OSError, ValueError):
                lines = text(time.monotonic() - began).split("\n")
                sys.stderr.writelines(f"{clean(line)}\n" for line in lines)
                sys.stderr.flush()

    threading.Thread(target=print_lines, name="progress", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _display(*, rated: bool = True) -> Any:  # noqa: ANN401  # rich is not imported for the annotation's sake
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Keys, bytes so far and bytes a second."""

        def render(self, task: Any) -> Text:  # noqa: ANN401
            size = task.fields["size"]
            rate = human_size(size / max(task.elapsed or 0, 0.1))
            return Text(f"{task.fields['keys']} {human_size(size)} {rate}/s")

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None),
        *((Rate(), TimeRemainingColumn()) if rated else (MofNCompleteColumn(),)),
        console=Console(stderr=True), transient=True, refresh_per_second=_REFRESH,
    )  # fmt: skip
