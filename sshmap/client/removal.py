"""Counting and deleting keys on all hosts; what one host cannot do, the others do all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from sshmap.client.conversations import Conversations
from sshmap.client.listing import Placed
from sshmap.client.results import Removal
from sshmap.errors import SshmapError
from sshmap.protocol.messages import Remove, Removed
from sshmap.transport.session import Session

#: names in one request
_NAMES = 1000


def count_keys(
    conversations: Conversations, prefix: str, names: Iterable[str] | None = None
) -> tuple[dict[str, Removed], dict[str, SshmapError]]:
    """Count the keys that start with a prefix; return counts and failures by host.

    Args:
        conversations: the way to the hosts.
        prefix: what the names start with; empty for all keys.
        names: the hosts, all of them if None.
    """
    request = Remove(prefix=prefix)
    return conversations.gather(lambda host: _count(conversations, host, request), names)


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
    request = Remove(prefix=name, exact=exact)
    return added_up(*conversations.gather(lambda host: _remove(conversations, host, request), names))


def count_each(conversations: Conversations, keys: Iterable[Placed]) -> Removal:
    """Count some keys, and those among them that no job made."""
    return _for_each(keys, conversations, lambda host, request: _count(conversations, host, request))


def remove_each(conversations: Conversations, keys: Iterable[Placed]) -> Removal:
    """Delete some keys; one that is gone already is no error."""
    return _for_each(keys, conversations, lambda host, request: _remove(conversations, host, request))


def _for_each(keys: Iterable[Placed], conversations: Conversations, ask: Callable[[str, Remove], Removed]) -> Removal:
    names: dict[str, list[str]] = {}
    for placed in keys:
        names.setdefault(placed.host, []).append(placed.path)

    def ask_all(host: str) -> Removed:
        some = (tuple(names[host][start : start + _NAMES]) for start in range(0, len(names[host]), _NAMES))
        answers = [ask(host, Remove(prefix="", names=page)) for page in some]
        return Removed(
            count=sum(one.count for one in answers), size=sum(one.size for one in answers),
            copied=sum(one.copied for one in answers), copied_size=sum(one.copied_size for one in answers),
        )  # fmt: skip

    return added_up(*conversations.gather(ask_all, names))


def added_up(answers: dict[str, Removed], failures: dict[str, SshmapError]) -> Removal:
    """Add up what the hosts say."""
    every = list(answers.values())
    return Removal(
        keys=sum(answer.count for answer in every), size=sum(answer.size for answer in every),
        copied=sum(answer.copied for answer in every), copied_size=sum(answer.copied_size for answer in every),
        failures=failures,
    )  # fmt: skip


def _count(conversations: Conversations, host: str, request: Remove) -> Removed:
    counting = msgspec.structs.replace(request, counting=True)
    return conversations.ask(host, lambda session: session.ask(counting, Removed))


def _remove(conversations: Conversations, host: str, request: Remove) -> Removed:
    """Delete keys on one host; after a break, report what the host held before, as the deletion may have happened."""
    counting = msgspec.structs.replace(request, counting=True)
    before: Removed | None = None

    def converse(session: Session) -> Removed:
        nonlocal before
        there = session.ask(counting, Removed)
        first, before = before is None, before or there
        # also where there are none, as the host notes that nothing is missed there any more
        removed = session.ask(request, Removed)
        return removed if first else before

    return conversations.ask(host, converse)
