"""Counting and deleting keys on all hosts; what one host cannot do, the others do all the same."""

from __future__ import annotations

from collections.abc import Iterable

from sshmap.client.conversations import Conversations
from sshmap.client.listing import Placed
from sshmap.client.results import Removal
from sshmap.errors import SshmapError
from sshmap.protocol.messages import Remove, Removed
from sshmap.transport.session import Session


def count_keys(
    conversations: Conversations, prefix: str, names: Iterable[str] | None = None
) -> tuple[dict[str, Removed], dict[str, SshmapError]]:
    """Count the keys that start with a prefix; return counts and failures by host.

    Args:
        conversations: the way to the hosts.
        prefix: what the names start with; empty for all keys.
        names: the hosts, all of them if None.
    """
    request = Remove(prefix=prefix, counting=True)
    return conversations.gather(
        lambda host: conversations.ask(host, lambda session: session.ask(request, Removed)), names
    )


def remove_keys(conversations: Conversations, name: str, *, exact: bool) -> Removal:
    """Delete a key, or all that start with a prefix.

    Args:
        conversations: the way to the hosts.
        name: key or prefix.
        exact: it is a key.

    Returns:
        What was deleted, and the hosts that failed.
    """
    names = [conversations.ring.place(name)] if exact else None
    answers, failures = conversations.gather(lambda host: _remove(conversations, host, name, exact=exact), names)
    return added_up(answers, failures)


def count_each(conversations: Conversations, keys: Iterable[Placed]) -> Removal:
    """Count some keys, and those among them that no job made."""
    return _for_each(conversations, keys, counting=True)


def remove_each(conversations: Conversations, keys: Iterable[Placed]) -> Removal:
    """Delete some keys; one that is gone already is no error."""
    return _for_each(conversations, keys, counting=False)


def _for_each(conversations: Conversations, keys: Iterable[Placed], *, counting: bool) -> Removal:
    names: dict[str, list[str]] = {}
    for placed in keys:
        names.setdefault(placed.host, []).append(placed.path)

    def ask(host: str) -> Removed:
        count = [_one(conversations, host, name, counting=counting) for name in names[host]]
        return Removed(
            count=sum(one.count for one in count), size=sum(one.size for one in count),
            copied=sum(one.copied for one in count), copied_size=sum(one.copied_size for one in count),
        )  # fmt: skip

    return added_up(*conversations.gather(ask, names))


def _one(conversations: Conversations, host: str, name: str, *, counting: bool) -> Removed:
    if not counting:
        return _remove(conversations, host, name, exact=True)
    request = Remove(prefix=name, exact=True, counting=True)
    return conversations.ask(host, lambda session: session.ask(request, Removed))


def added_up(answers: dict[str, Removed], failures: dict[str, SshmapError]) -> Removal:
    """Add up what the hosts say."""
    every = list(answers.values())
    return Removal(
        keys=sum(answer.count for answer in every), size=sum(answer.size for answer in every),
        copied=sum(answer.copied for answer in every), copied_size=sum(answer.copied_size for answer in every),
        failures=failures,
    )  # fmt: skip


def _remove(conversations: Conversations, host: str, name: str, *, exact: bool) -> Removed:
    """Delete keys on one host; after a break, report what the host held before, as the deletion may have happened."""
    before: Removed | None = None

    def converse(session: Session) -> Removed:
        nonlocal before
        there = session.ask(Remove(prefix=name, exact=exact, counting=True), Removed)
        first, before = before is None, before or there
        # also where there are none, as the host notes that nothing is missed there any more
        removed = session.ask(Remove(prefix=name, exact=exact), Removed)
        return removed if first else before

    return conversations.ask(host, converse)
