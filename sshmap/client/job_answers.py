"""Checks of what a host answers about a job: it is data, which may be wrong or meant to harm other hosts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from sshmap.errors import ProtocolError, Refused
from sshmap.model import Maker, Receipt
from sshmap.placement import Ring
from sshmap.protocol import messages as m
from sshmap.store.receipts import digest_maker
from sshmap.transport.session import Session

#: rows about directories of outputs that a host may send: they are held in memory
MOST_ROWS = 1_000_000
#: characters of a job's id that are shown
_MOST_ID = 40


def counted(session: Session, outdir: str) -> Iterator[m.OutputCount]:
    """Go through the fan-out outputs that a host says it holds below OUTDIR.

    Raises:
        ProtocolError: it names keys elsewhere, counts without end, or answers something else.
    """
    rows = _Rows(session.host, outdir)
    for page in session.stream(m.CountOutputs(outdir=outdir), m.Served):
        if isinstance(page, m.OutputCounts):
            rows.take(page)
            yield from page.rows
        elif not isinstance(page, m.Served):
            raise ProtocolError(f"{type(page).__name__} came instead of counts", host=session.host)


class _Rows:
    """Holds the rows of one answer against what was asked: directories below OUTDIR, in order, each receipt once.

    Args:
        host: whose answer it is.
        outdir: what was asked for.
    """

    def __init__(self, host: str, outdir: str) -> None:
        self._host, self._outdir = host, outdir
        self._count = 0
        #: an empty page is the last one
        self._ended = False
        self._directory = ""
        self._receipts: set[Receipt | None] = set()

    def take(self, page: m.OutputCounts) -> None:
        """Check the next page.

        Raises:
            ProtocolError: a row is of something else, or there is no end of them.
        """
        self._count += len(page.rows)
        if self._ended or self._count > MOST_ROWS:
            raise ProtocolError("its counts of outputs do not end", host=self._host)
        self._ended = not page.rows
        for row in page.rows:
            self._check(row)

    def _check(self, row: m.OutputCount) -> None:
        base = row.output.removeprefix(self._outdir).removesuffix("/")
        if row.output != f"{self._outdir}{base}/" or not base or "/" in base:
            raise ProtocolError("it counts outputs that were not asked for", host=self._host)
        if row.output > self._directory:
            self._directory, self._receipts = row.output, set()
        if row.output < self._directory or row.receipt in self._receipts:
            raise ProtocolError("its counts of outputs are out of order", host=self._host)
        self._receipts.add(row.receipt)


def check_plan(host: str, plan: m.Planned) -> m.Planned:
    """Return a plan, unless it refuses tasks without saying why.

    Raises:
        ProtocolError: it refuses tasks without saying why.
    """
    if plan.refused and not plan.problems:
        raise ProtocolError("it refuses the job and does not say why", host=host)
    return plan


def check_peers(host: str, message: m.Progress | m.RunEnded, ring: Ring) -> None:
    """Refuse fan-out files for hosts that the inventory does not have.

    Raises:
        ProtocolError: there are some.
    """
    strangers = message.stuck.keys() - {name for name, _ in ring.members}
    if strangers:
        raise ProtocolError(f"it has files for {min(strangers)!r}, which is no host of the inventory", host=host)


def check_directories(host: str, stale: m.StaleOutputs, outdir: str, ring: Ring) -> None:
    """Refuse pages without rows, and directories that no input on a host has outputs in, as keys in them are going to be deleted on all hosts.

    Raises:
        ProtocolError: there are some.
    """
    if not stale.directories:
        raise ProtocolError("it speaks of stale outputs and names none", host=host)
    for row in stale.directories:
        base = row.output.removeprefix(outdir).removesuffix("/")
        if row.output != f"{outdir}{base}/" or "/" in base or ring.place(base) != host:
            raise ProtocolError(f"it speaks of {row.output[:100]!r}, where none of its outputs belong", host=host)


def check_receipts(host: str, orphaned: m.StaleOutputs, maker: Maker) -> None:
    """Refuse directories with receipts of other work, as keys with these receipts are going to be deleted on all hosts.

    Raises:
        ProtocolError: there are some.
    """
    identity = digest_maker(maker)
    if any(row.receipt.maker != identity for row in orphaned.directories):
        raise ProtocolError("it would have outputs of other work deleted", host=host)


def check_order(host: str, rows: Sequence[m.OutputDirectory], before: int) -> None:
    """Refuse directories that are not in order, each once, or that do not end.

    Args:
        host: whose answer it is.
        rows: those of a page, and the one before it.
        before: how many came before the page.

    Raises:
        ProtocolError: there are some.
    """
    if before + len(rows) > MOST_ROWS or any(one.output >= other.output for one, other in itertools.pairwise(rows)):
        raise ProtocolError("it speaks of stale outputs without end, or out of order", host=host)


def check_accepted(plans: dict[str, m.Planned]) -> None:
    """Check that no host refuses its part of a job.

    Raises:
        SshmapError: the first reason, and how many more there are.
    """
    refused = {host: plan for host, plan in plans.items() if plan.refused}
    if refused:
        host, plan = next(iter(refused.items()))
        error = plan.problems[0].error(host)
        others = sum(plan.refused for plan in refused.values()) - 1
        error.message += f" (and {others} more outputs)" if others else ""
        raise error


def check_whole(indir: str, plans: Iterable[m.Planned]) -> None:
    """Check that no inputs of a merge are missing.

    Raises:
        Refused: some are; the fan-outs that should have made them are named.
    """
    gaps = [gap for plan in plans for gap in plan.gaps]
    if not gaps:
        return
    sums: dict[str, tuple[int, int, int]] = {}
    for gap in gaps:
        failed, unfinished, files = sums.get(gap.job, (0, 0, 0))
        sums[gap.job] = (failed + gap.failed, unfinished + gap.unfinished, files + gap.files)
    jobs = "; ".join(f"of fan-out {job[:_MOST_ID]} {_missing(*numbers)}" for job, numbers in sums.items())
    raise Refused(
        f"{indir} is not whole: {jobs}",
        hint="run that fan-out again, sshmap jobs shows it; or merge what is there with --partial",
    )


def _missing(failed: int, unfinished: int, files: int) -> str:
    said = [f"{failed} tasks have failed"] if failed else []
    said += [f"{unfinished} tasks are unfinished"] if unfinished else []
    said += [f"{files} files wait to be sent"] if files else []
    return " and ".join(said)
