"""Doing what a recipe says: the files are sent, then each step runs what is missing or has changed.

Whatever stops it, the same call again goes on from there: each step is a job, whose receipts say what is done.
Keys below a step's directory that none of its inputs makes are deleted, so that what is gone is not counted on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from sshmap.cli.app import settings
from sshmap.cli.printers import Printer
from sshmap.cli.progress import Manner, counting, following
from sshmap.client.cluster import Cluster
from sshmap.client.job_results import MENDED, JobFailed
from sshmap.client.listing import Placed
from sshmap.client.results import TransferFailed
from sshmap.model import Verb
from sshmap.recipe import inputs
from sshmap.recipe.collecting import Temporaries
from sshmap.recipe.files import Files
from sshmap.recipe.flow import Flow, Place, Step
from sshmap.recipe.needs import fetched
from sshmap.recipe.plan import mark
from sshmap.recipe.tables import Rows, Table


class Ran(msgspec.Struct, kw_only=True):
    """What was done."""

    ran: int = 0
    kept: int = 0

    def __str__(self) -> str:
        if self.ran:
            return f"done: {self.ran} ran, {self.kept} kept"
        return f"nothing ran: all {self.kept} results were there already"


class Running:
    """One recipe on one cluster.

    Args:
        cluster: the cluster.
        place: where its keys lie.
        flow: its files and steps.
        printer: says what was done.
        manner: how progress is shown.
    """

    def __init__(self, cluster: Cluster, place: Place, flow: Flow, printer: Printer, manner: Manner) -> None:
        self._cluster, self._place, self._printer, self._manner = cluster, place, printer, manner
        self._flow, self._temporaries = flow, Temporaries(cluster, place, flow)
        #: how the progress of a step is called
        self._title = "{}"

    def run(self, steps: list[Step], sources: Iterable[Files], *, again: bool, check: Callable[[], object]) -> None:
        """Send the files, and run what is missing or has changed.

        Args:
            steps: those that are to be run, in order.
            sources: files that are to be sent.
            again: fetch raw inputs again.
            check: called before each step; raises an error if it is not to be begun.

        Raises:
            JobFailed: a step is not complete.
            SshmapError: what else went wrong.
        """
        ran = Ran()
        for source in sources:
            self._send(source, again=again)
        for number, step in enumerate(steps, 1):
            check()
            self._title = f"{{}} ({number} of {len(steps)} steps)" if len(steps) > 1 else "{}"
            self._step(step, ran, last=self._flow.is_last(step, steps))
        if count := self._temporaries.collect(steps):
            self._printer.note(f"{count} temporary keys deleted")
        self._printer.note(str(ran))

    def _send(self, source: Files, *, again: bool) -> None:
        began = time.monotonic()
        with (
            inputs.opened(self._cluster, self._place, source, again=again) as opened,
            counting(source.name, self._manner) as report,
        ):
            difference = opened.compare()
            try:
                opened.send(difference, report, lambda text: self._note(source, text))
            except TransferFailed as exc:
                failed: TransferFailed | None = exc
            else:
                failed = None
        if failed:
            self._printer.transfer(failed.result, time.monotonic() - began)
            raise failed
        done = "asked for" if source.urls else "sent"
        self._note(source, f"{len(difference.pending)} {done}, {len(difference.same)} there already")

    def _note(self, source: Files, text: str) -> None:
        self._printer.note(f"{source.name}: {text}")

    def _step(self, step: Step, ran: Ran, *, last: bool) -> None:
        """Run a step, unless it has nothing to do as keys of temporary steps are not needed: those of a last step are asked for."""
        if not last and (note := self._temporaries.collected(step)):
            self._printer.note(f"{step.name}: nothing to run, its {note.count} keys are made when they are needed")
        elif self._temporaries.has_all(step):
            kept = len(self._names(step.name))
            self._temporaries.found(step)
            self._printer.note(f"{step.name}: 0 ran, {kept} kept")
            ran.kept += kept
        else:
            self._make(step, ran)

    def _make(self, step: Step, ran: Ran) -> None:
        """Run a step, and before it the one that it is made from, if the keys of that were deleted."""
        if source := self._temporaries.source_of(step):
            self._make(source, ran)
        self._temporaries.forget(step)
        if self._inputs(step):
            self._submit(step, ran)
        else:
            left = self._delete_left_over(step)
            self._printer.note(f"{step.name}: nothing to run{f', {left} deleted whose input is gone' if left else ''}")

    def _submit(self, step: Step, ran: Ran) -> None:
        indir, outdir = self._place.source(step), self._place.prefix(step.name)
        with (
            fetched(self._cluster, self._place, step, needed=True) as shipped,
            following(self._title.format(step.name), self._manner) as report,
        ):
            try:
                result = self._cluster.submit(
                    step.verb, indir, outdir, step.command, replace=True, shipped=shipped, packages=step.packages, limits=step.limits,
                    report=report, note=self._printer.note,
                )  # fmt: skip
            except JobFailed as exc:
                failed: JobFailed | None = exc
            else:
                failed = None
        if failed:
            self._printer.job(failed.result, settings.typed(failed.hint.removesuffix(f"; {MENDED}")))
            raise failed
        left = self._delete_left_over(step)
        self._printer.note(
            f"{step.name}: {result.done} ran, {result.kept} kept{f', {left} deleted whose input is gone' if left else ''}"
        )
        ran.ran, ran.kept = ran.ran + result.done, ran.kept + result.kept

    def _delete_left_over(self, step: Step) -> int:
        """Delete the keys of a step that none of its inputs makes; return how many there were."""
        marks = {mark(step.verb, name) for name in self._inputs(step)}
        left = [name for name in self._names(step.name) if mark(step.verb, _output(step.verb, name)) not in marks]
        # what a fan-out has left over are whole directories
        for name in {_output(step.verb, name) for name in left}:
            self._cluster.rm(f"{self._place.prefix(step.name)}{name}", recursive=step.verb is Verb.FANOUT)
        return len(left)

    def _inputs(self, step: Step) -> list[str]:
        return self._names_below(self._place.source(step))

    def _names(self, name: str) -> list[str]:
        return self._names_below(self._place.prefix(name))

    def _names_below(self, prefix: str) -> list[str]:
        rows = self._cluster.ls(prefix, recursive=True)
        return [row.name.removeprefix(prefix) for row in rows if isinstance(row, Placed)]

    def rows(self, table: Table) -> Rows:
        """Read a table.

        Raises:
            SshmapError: a host does not answer, or a line has not as many values as there are columns.
        """
        prefix = self._place.prefix(table.name)
        contents = [self._cluster.get(f"{prefix}{name}") for name in sorted(self._names(table.name))]
        return [row for content in contents for row in table.rows(content.decode(errors="replace"))]


def _output(verb: Verb, name: str) -> str:
    """Return which output of a step a key belongs to: of a fan-out, its directory."""
    return f"{name.rsplit('/', 1)[0]}/" if verb is Verb.FANOUT else name
