"""Deleting outputs that a job leaves behind: stale ones beside fresh ones, and those whose inputs are gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sshmap.client.conversations import Conversations
from sshmap.client.job_answers import check_directories, check_order, check_receipts
from sshmap.client.results import raise_failures
from sshmap.errors import ProtocolError
from sshmap.model import JobSpec, parse_name
from sshmap.placement import Ring
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: rows in one message
_ROWS = 2000


def sweep(
    conversations: Conversations,
    directories: Sequence[m.OutputDirectory],
    *,
    orphaned: bool,
    hosts: Iterable[str] | None = None,
) -> int:
    """Delete keys in output directories of a fan-out; return how many there were.

    Args:
        conversations: the cluster.
        directories: the directories, each with a receipt.
        orphaned: delete the keys that have these receipts; else those that have others.
        hosts: where; on all hosts if None.

    Raises:
        SshmapError: a host did not do it.
    """
    if not directories:
        return 0
    pages = [
        m.Sweep(directories=tuple(directories[start : start + _ROWS]), orphaned=orphaned)
        for start in range(0, len(directories), _ROWS)
    ]

    def ask(session: Session) -> int:
        return sum(session.ask(page, m.Removed).count for page in pages)

    counts, failures = conversations.gather(lambda name: conversations.ask(name, ask), hosts)
    raise_failures(failures, {})
    return sum(counts.values())


def prune(conversations: Conversations, spec: JobSpec) -> int:
    """Delete the outputs of a job's own work whose inputs are gone, on all hosts; return how many there were.

    Raises:
        SshmapError: a host did not do it.
    """
    answers, failures = conversations.gather(
        lambda name: conversations.ask(name, lambda session: _pruned(session, spec, conversations.ring))
    )
    raise_failures(failures, {})
    directories = [row for _, rows in answers.values() for row in rows]
    swept = sweep(conversations, directories, orphaned=True)
    if directories:
        request = m.Prune(job=spec, swept=True)
        _, failures = conversations.gather(
            lambda name: conversations.ask(name, lambda session: session.ask(request, m.Removed)), answers
        )
        raise_failures(failures, {})
    return sum(count for count, _ in answers.values()) + swept


def _pruned(session: Session, spec: JobSpec, ring: Ring) -> tuple[int, list[m.OutputDirectory]]:
    """Have a host delete its orphans; return how many it did, and the directories in which those of a fan-out lie."""
    found: list[m.OutputDirectory] = []
    for message in session.stream(m.Prune(job=spec), m.Removed):
        if isinstance(message, m.Removed):
            return message.count, found
        if not isinstance(message, m.StaleOutputs):
            break
        check_directories(session.host, message, parse_name(spec.outdir), ring)
        check_receipts(session.host, message, spec.maker)
        check_order(session.host, [*found[-1:], *message.directories], len(found))
        found += message.directories
    raise ProtocolError(f"{type(message).__name__} came instead of directories", host=session.host)
