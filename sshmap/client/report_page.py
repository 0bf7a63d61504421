"""A report as a page: what it has of each run, and how that becomes HTML; pure.

What hosts say is data. It is put into the page as JSON in which nothing can end the element that holds it, and the page's
script writes it as text only. Should that ever fail, the page's policy lets no script run but this one, which it knows by
its digest, and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
from importlib import resources

import msgspec

from sshmap.client.figures import MARKS, Bar, Figures, HostFigures, Shown
from sshmap.client.summaries import RunSummary
from sshmap.limits import Limits, write_duration
from sshmap.model import JobSpec, TaskState
from sshmap.protocol import messages as m

#: parts of a second in which bars are given: most tasks over small keys take milliseconds
_TICKS = 10_000
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
#: what could end the element that holds the data, or a line of it
_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A host, or this machine, as it is when the report is made."""

    name: str
    version: str = ""
    #: Python's version, machine, C library or system
    platform: tuple[str, str, str] = ("", "", "")
    cores: int = 0
    workers: int = 0
    #: why it did not answer
    problem: str = ""


class WorkerBars(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker did, with its bars column by column in the order of their beginning."""

    #: place in the run's hosts
    host: int
    slot: int
    tasks: int
    #: seconds that it ran commands
    busy: float
    #: ticks from the beginning of the bar before, at first of the run, and that the bar takes
    begins: list[int]
    takes: list[int]
    #: a digit for each
    marks: str
    #: without the beginning that all keys share
    keys: list[str]
    #: empty if all are first attempts
    attempts: list[int]


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one host did."""

    name: str
    tasks: int
    failed: int
    received: int
    made: int
    peak: int
    cpu: float
    busy: float
    #: seconds from the beginning of the run to the end of the host's last command
    last: float
    workers: int


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run, as the page has it."""

    number: int
    run: str
    verb: str
    state: str
    indir: str
    outdir: str
    command: str
    options: list[str]
    origin: str
    submitted: int
    ended: int
    #: tasks by state
    states: dict[str, int]
    left: int
    kept: int
    size: int
    #: attempts by what became of them
    marks: dict[str, int]
    #: seconds since 1970 when the first command began, and from then to the end of the last
    first: float
    span: float
    hosts: list[HostRow]
    #: what the keys of all bars begin with
    prefix: str
    workers: list[WorkerBars]
    undrawn: int
    #: when the first step begins, as seconds from the first command; its seconds; done, failed and commands at once of each
    rates: tuple[float, float, list[tuple[int, int, float]]]
    slowest: list[Shown]
    failed: list[Shown]
    #: hosts whose attempts are missing or not all there, and why
    silent: dict[str, str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page has."""

    #: seconds since 1970
    made: float
    by: str
    cluster: str
    here: Machine
    hosts: list[Machine]
    runs: list[RunReport]
    #: what bars are coloured by, and how many of them are a second
    marks: tuple[str, ...] = MARKS
    ticks: int = _TICKS


def describe(run: RunSummary, asked: m.JobIs | None, figures: Figures, silent: dict[str, str]) -> RunReport:
    """Put together what the page has of a run.

    Args:
        run: the run on all hosts.
        asked: what it was to do, if a host has said so.
        figures: of its attempts.
        silent: hosts that did not tell all, and why.
    """
    first = figures.first if figures.last else 0.0
    prefix, workers = _workers(figures, first)
    rates = figures.rates.rows()
    return RunReport(
        number=run.number, run=run.run, verb=run.verb.value, state=run.state, indir=run.indir, outdir=run.outdir,
        command=asked.job.maker.command if asked else run.command, options=options_of(asked.job, asked.limits) if asked else [],
        origin=run.origin, submitted=run.submitted, ended=run.ended, left=run.left, kept=run.kept, size=run.size,
        states={state.value: run.states.get(state, 0) for state in TaskState}, marks=dict(figures.marks), silent=silent,
        first=first, span=max(0.0, figures.last - first), undrawn=figures.undrawn, prefix=prefix, workers=workers,
        hosts=[_host_row(name, host, first) for name, host in figures.hosts.items()],
        rates=(figures.rates.begin - first if rates else 0.0, figures.rates.step, rates),
        slowest=figures.slowest(), failed=figures.failed(),
    )  # fmt: skip


def _host_row(name: str, host: HostFigures, first: float) -> HostRow:
    return HostRow(
        name=name, tasks=host.tasks, failed=host.failed, received=host.received, made=host.made, peak=host.peak,
        cpu=round(host.cpu, 4), busy=round(host.busy, 4), last=max(0.0, host.last - first), workers=len(host.workers),
    )  # fmt: skip


def _workers(figures: Figures, first: float) -> tuple[str, list[WorkerBars]]:
    """Return what the keys of all bars begin with, and the workers with their bars."""
    drawn = figures.bars()
    prefix = os.path.commonprefix([bar.key for bars in drawn.values() for bar in bars])  # noqa: RUF071  # any beginning
    places = {host: place for place, host in enumerate(figures.hosts)}
    found = []
    for (host, slot), bars in drawn.items():
        worker = figures.hosts[host].workers[slot]
        found.append(
            WorkerBars(
                host=places[host], slot=slot, tasks=worker.tasks, busy=round(worker.busy + worker.running, 4),
                begins=_begins(bars, first), takes=[round(bar.seconds * _TICKS) for bar in bars],
                marks="".join(str(bar.mark) for bar in bars), keys=[bar.key[len(prefix) :] for bar in bars],
                attempts=_numbers(bars),
            )
        )  # fmt: skip
    return prefix, found


def _numbers(bars: list[Bar]) -> list[int]:
    """Return the numbers of the attempts, or nothing if all are first ones."""
    numbers = [bar.attempt for bar in bars]
    return numbers if max(numbers, default=1) > 1 else []


def _begins(bars: list[Bar], first: float) -> list[int]:
    ticks = [round((bar.began - first) * _TICKS) for bar in bars]
    return [tick - before for before, tick in zip([0, *ticks], ticks, strict=False)]


def options_of(job: JobSpec, limits: Limits) -> list[str]:
    """Write what a run was given beside INDIR, OUTDIR and command as it is typed."""
    halt = f"{limits.halt_percent:g}%" if limits.halt_percent else str(limits.halt_failed or "")
    timeout = write_duration(limits.timeout) if limits.timeout else ""
    values = {
        "jobs": limits.jobs, "retries": limits.retries, "memfree": limits.memory_free, "nice": limits.nice, "rate": limits.rate,
        "timeout": f"{limits.timeout_percent:g}%" if limits.timeout_percent else timeout,
        "halt": f"{'now' if limits.halt_now else 'soon'},fail={halt}" if halt else "",
    }  # fmt: skip
    flags = {"replace": job.replace, "partial": job.partial, "keep-done": job.keep_done}
    return [
        *(f"--with {file.name}" for file in job.maker.shipped),
        *(f"--{name}" for name, given in flags.items() if given),
        *(f"--{name} {value}" for name, value in values.items() if value),
    ]


def write_page(report: Report) -> str:
    """Write a report as a page."""
    page = resources.files("sshmap.client").joinpath("report.html").read_text(encoding="utf-8")
    _, begin, rest = page.partition("<script>")
    script, end, _ = rest.partition("</script>")
    assert begin, end
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("@POLICY@", _POLICY.format(digest), 1)
    # at last, so that nothing in the data is taken for a place to fill
    return page.replace("@DATA@", msgspec.json.encode(report).decode().translate(_ESCAPED), 1)
