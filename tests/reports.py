"""Attempts, and reports about them, as hosts could have made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sshmap.client.figures import MOST_BARS, Figures
from sshmap.client.report_page import Machine, Report, RunReport, describe
from sshmap.client.summaries import RunSummary
from sshmap.limits import Limits
from sshmap.model import AttemptEnd, JobSpec, Maker, TaskState, Verb
from sshmap.protocol.messages import AttemptRow, JobIs

#: seconds since 1970
BEGAN = 1_790_000_000.0
#: leaves the element that holds it, where that is possible at all, and shows that it has run
HOSTILE = "</script><img src=x onerror=\"document.body.dataset.hit='yes'\"><!--"


def attempt(
    task: int, *, at: float, ran: float, key: str = "", slot: int = 0, ended: float = 0.0, number: int = 1,
    outcome: AttemptEnd | None = AttemptEnd.DONE, state: TaskState = TaskState.DONE, stderr: bytes = b"",
) -> AttemptRow:  # fmt: skip
    """Make an attempt; times are seconds from `BEGAN`."""
    return AttemptRow(
        task=task, key=key or f"sm://b/in/k{task}", state=state, attempt=number, slot=slot, queued=BEGAN, began=BEGAN + at,
        ended=(BEGAN + (ended or at + ran)) * (outcome is not None), outcome=outcome, ran=ran, user=ran / 2, peak=1 << 20, received=100,
        made=10, exit_code=3 if outcome is AttemptEnd.FAILED else 0, stderr=stderr,
    )  # fmt: skip


def attempts(count: int, workers: int = 2, ran: float = 1.0) -> list[AttemptRow]:
    """Make attempts that keep some workers busy, with a second between two of the same worker."""
    return [attempt(task, at=(ran + 1) * (task // workers), ran=ran, slot=task % workers) for task in range(count)]


def summary(rows: Mapping[str, Iterable[AttemptRow]], number: int = 17, command: str = "cat") -> RunSummary:
    """Make a run of attempts by host."""
    states = {state: sum(row.state is state for some in rows.values() for row in some) for state in TaskState}
    return RunSummary(
        run=f"{number:012x}", number=number, job="j", verb=Verb.MAP, indir="sm://b/in/", outdir="sm://b/out/", command=command,
        submitted=int(BEGAN), ended=int(BEGAN) + 60, origin="ada@laptop", ending=None, states=states, kept=0, size=0, hosts={},
    )  # fmt: skip


def run_of(
    rows: Mapping[str, Iterable[AttemptRow]], number: int = 17, command: str = "cat", most_bars: int = MOST_BARS
) -> RunReport:
    """Make what a page has of a run."""
    figures = Figures(rows, BEGAN + 100, most_bars)
    for host, some in rows.items():
        for row in some:
            figures.take(host, row)
            if row.outcome is AttemptEnd.FAILED:
                figures.take_failed(host, row)
    job = JobSpec(indir="sm://b/in/", outdir="sm://b/out/", maker=Maker(verb=Verb.MAP, command=command))
    return describe(summary(rows, number, command), JobIs(job=job, limits=Limits()), figures, {})


def report_of(*runs: Mapping[str, Iterable[AttemptRow]], command: str = "cat") -> Report:
    """Make a report about runs, each given by its attempts by host."""
    names = dict.fromkeys(host for rows in runs for host in rows)
    return Report(
        made=BEGAN + 100, by="ada@laptop", cluster="h[0-1]", here=Machine(name="this machine"),
        hosts=[Machine(name=name) for name in names],
        runs=[run_of(rows, 17 + place, command) for place, rows in enumerate(runs)],
    )  # fmt: skip
