"""A report: one page about one or several runs, which needs no network and nothing beside it. Asks the hosts, and writes the file.

What the page has of a run, and how it becomes HTML, is in `report_page`.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from sshmap.client.conversations import Conversations
from sshmap.client.destination import NamedFile
from sshmap.client.figures import MOST_BARS, Figures
from sshmap.client.report_page import Machine, Report, RunReport, describe, write_page
from sshmap.client.results import Status, raise_failures
from sshmap.client.runs import attempts_on, origin
from sshmap.client.summaries import RunSummary, find_run, list_runs
from sshmap.errors import SshmapError, UsageError
from sshmap.protocol import messages as m
from sshmap.version import __version__


def make_report(
    conversations: Conversations, which: Iterable[str], statuses: tuple[dict[str, Status], dict[str, SshmapError]]
) -> tuple[str, dict[str, SshmapError]]:
    """Make the page about some runs; return it, and what failed, by host.

    Args:
        conversations: the cluster.
        which: each a run's number, ``last``, or the beginning of its id.
        statuses: what hosts say of themselves, and those that did not answer.

    Raises:
        NothingMatched: there is no such run.
        UsageError: several runs are meant by one word, or none is named.
    """
    known, failures = list_runs(conversations)
    if not known:
        raise_failures(failures, {})
    chosen = list({run.run: run for run in (find_run(known, word) for word in which)}.values())
    if not chosen:
        raise UsageError("no run is named", hint="sshmap report last")
    failures = statuses[1] | failures
    runs = []
    for run in chosen:
        report, more = _report_run(conversations, run, failures, MOST_BARS // len(chosen))
        runs.append(report)
        failures |= more
    page = write_page(
        Report(
            made=time.time(), by=origin(), cluster=conversations.inventory.called, here=_here(), runs=runs,
            hosts=[_machine(host.name, statuses[0].get(host.name), failures.get(host.name)) for host in conversations.hosts],
        )
    )  # fmt: skip
    return page, failures


def _here() -> Machine:
    return Machine(
        name="this machine", version=__version__, cores=os.cpu_count() or 0,
        platform=(platform.python_version(), platform.machine(), platform.platform(terse=True)),
    )  # fmt: skip


def _machine(name: str, status: Status | None, failure: SshmapError | None) -> Machine:
    if status is None:
        return Machine(name=name, problem=failure.message if failure else "")
    return Machine(
        name=name, version=status.version, platform=status.platform, cores=status.cores, workers=status.workers,
        problem=failure.message if failure else "",
    )  # fmt: skip


def _report_run(
    conversations: Conversations, run: RunSummary, lost: dict[str, SshmapError], most_bars: int
) -> tuple[RunReport, dict[str, SshmapError]]:
    """Ask the hosts that know a run about it; return that, and what failed, by host."""
    figures, lock = Figures(run.hosts, time.time(), most_bars), threading.Lock()

    def take(host: str) -> None:
        for row in attempts_on(conversations, host, m.ListAttempts(run=run.run)):
            with lock:
                figures.take(host, row)
        if figures.hosts[host].failed:
            for row in attempts_on(conversations, host, m.ListAttempts(run=run.run, failed=True, stderr=True)):
                with lock:
                    if not figures.take_failed(host, row):
                        break

    asked, _ = conversations.gather(
        lambda host: conversations.ask(host, lambda session: session.ask(m.GetJob(run=run.run), m.JobIs)), run.hosts
    )
    _, failures = conversations.gather(take, run.hosts)
    silent = {host: error.message for host, error in (lost | failures).items()}
    return describe(run, next(iter(asked.values()), None), figures, silent), failures


def save(page: str, path: Path) -> None:
    """Write a page to a file, which appears whole or not at all.

    Raises:
        UsageError: nothing can be written there.
        OSError: the disk is full.
    """
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no directory {path.parent}", hint="name another file with -o")
    try:
        file = NamedFile(path)
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror}", hint="name another file with -o") from exc
    try:
        file.write(memoryview(page.encode()))
        file.finish()
    except (IsADirectoryError, NotADirectoryError, PermissionError) as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror}", hint="name another file with -o") from exc
    finally:
        file.close()
