"""Checks of what a host answers about a job: it is data, which may be wrong or meant to harm other hosts."""

from __future__ import annotations

from collections.abc import Iterator

from sshmap.errors import ProtocolError
from sshmap.placement import Ring
from sshmap.protocol import messages as m
from sshmap.transport.session import Session


def counted(session: Session, outdir: str) -> Iterator[m.OutputCount]:
    """Go through the fan-out outputs that a host says it holds below OUTDIR.

    Raises:
        ProtocolError: it names keys elsewhere, or answers something else.
    """
    for page in session.stream(m.CountOutputs(outdir=outdir), m.Served):
        if isinstance(page, m.OutputCounts):
            if any(not row.output.startswith(outdir) for row in page.rows):
                raise ProtocolError("it counts outputs that were not asked for", host=session.host)
            yield from page.rows
        elif not isinstance(page, m.Served):
            raise ProtocolError(f"{type(page).__name__} came instead of counts", host=session.host)


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
    """Refuse directories that no input on a host has outputs in, as keys in them are going to be deleted on all hosts.

    Raises:
        ProtocolError: there are some.
    """
    for row in stale.directories:
        base = row.output.removeprefix(outdir).removesuffix("/")
        if row.output != f"{outdir}{base}/" or "/" in base or ring.place(base) != host:
            raise ProtocolError(f"it speaks of {row.output[:100]!r}, where none of its outputs belong", host=host)
