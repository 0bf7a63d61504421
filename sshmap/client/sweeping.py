"""Deleting outputs that a job leaves behind: stale ones beside fresh ones, and those whose inputs are gone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from sshmap.client.conversations import Conversations
from sshmap.client.job_answers import MOST_ROWS, check_directories, check_receipts
from sshmap.client.results import raise_failures
from sshmap.errors import ProtocolError
from sshmap.model import JobSpec, parse_name
from sshmap.protocol import messages as m
from sshmap.transport.session import Session

#: rows in one message
_ROWS = 2000


def sweep(conversations: Conversations, directories: Sequence[m.OutputDirectory], *, orphaned: bool) -> int:
    """Delete keys in output directories of a fan-out, on all hosts; return how many there were.

    Args:
        conversations: the cluster.
        directories: the directories, each with a receipt.
        orphaned: delete the keys that have these receipts; else those that have others.

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

    counts, failures = conversations.gather(lambda name: conversations.ask(name, ask))
    raise_failures(failures, {})
    return sum(counts.values())


def prune(conversations: Conversations, spec: JobSpec) -> int:
    """Delete the outputs of a job's own work whose inputs are gone, on all hosts; return how many there were.

    Raises:
        SshmapError: a host did not do it.
    """
    found: dict[str, list[m.OutputDirectory]] = {}

    def ask(session: Session) -> int:
        found[session.host] = []
        for message in session.stream(m.Prune(job=spec), m.Removed):
            if isinstance(message, m.Removed):
                return message.count
            if not isinstance(message, m.StaleOutputs):
                break
            check_directories(session.host, message, parse_name(spec.outdir), conversations.ring)
            check_receipts(session.host, message, spec.maker)
            before = found[session.host][-1:]
            found[session.host] += message.directories
            names = [row.output for row in (*before, *message.directories)]
            if len(found[session.host]) > MOST_ROWS or any(one >= other for one, other in itertools.pairwise(names)):
                raise ProtocolError("it speaks of stale outputs without end, or out of order", host=session.host)
        raise ProtocolError(f"{type(message).__name__} came instead of directories", host=session.host)

    def forget(session: Session) -> m.Removed:
        return session.ask(m.Prune(job=spec, swept=True), m.Removed)

    counts, failures = conversations.gather(lambda name: conversations.ask(name, ask))
    raise_failures(failures, {})
    directories = [row for rows in found.values() for row in rows]
    swept = sweep(conversations, directories, orphaned=True)
    if directories:
        _, failures = conversations.gather(lambda name: conversations.ask(name, forget), found)
        raise_failures(failures, {})
    return sum(counts.values()) + swept
