"""The moving display on a terminal; the only file that knows rich, which is loaded when there is a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sshmap.client.jobs import JobProgress
from sshmap.client.results import Counted, silent

#: repaints a second
_REFRESH = 8


def unmoved(_: JobProgress) -> None:
    """Show nothing."""


def is_shown(*, quiet: bool) -> bool:
    """Whether to show a display: stderr is a terminal that can move its cursor, and the user did not say --quiet."""
    return not quiet and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


@contextlib.contextmanager
def counting(title: str, total: int | None, *, shown: bool) -> Iterator[Counted]:
    """Show keys, bytes, MB/s and, where the total is known, the time left; yield a function to call at each step."""
    if not shown:
        yield silent
        return
    with _display() as display:
        task = display.add_task(title, total=total, size=0)
        size_so_far = 0

        def step(keys: int, size: int) -> None:
            nonlocal size_so_far
            size_so_far += size
            display.update(task, advance=keys, size=size_so_far)

        yield step


@contextlib.contextmanager
def hosts_counted(title: str, total: int, *, shown: bool) -> Iterator[Counted]:
    """Show how many hosts are done; yield a function to call for each."""
    if not shown:
        yield silent
        return
    with _display(rated=False) as display:
        task = display.add_task(title, total=total)
        yield lambda hosts, _: display.advance(task, hosts)


@contextlib.contextmanager
def following(title: str, *, shown: bool) -> Iterator[Callable[[JobProgress], None]]:
    """Show the progress of a job; yield a function to call with it."""
    if not shown:
        yield unmoved
        return
    with _display() as display:
        task = display.add_task(title, total=None, size=0)

        def update(progress: JobProgress) -> None:
            failed = f", {progress.failed} failed" if progress.failed else ""
            display.update(
                task,
                total=progress.total,
                completed=progress.done + progress.failed,
                size=progress.size,
                description=title + failed,
            )

        yield update


def _display(*, rated: bool = True) -> Any:  # noqa: ANN401  # rich is not imported for the annotation's sake
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from sshmap.cli.printers import human_size

    class Rate(ProgressColumn):
        """Bytes so far and bytes a second."""

        def render(self, task: Any) -> Text:  # noqa: ANN401
            size = task.fields["size"]
            return Text(f"{human_size(size)} {human_size(size / max(task.elapsed or 0, 0.1))}/s")

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn(),
        *((Rate(), TimeRemainingColumn()) if rated else ()),
        console=Console(stderr=True), transient=True, refresh_per_second=_REFRESH,
    )  # fmt: skip
