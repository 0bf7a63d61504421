"""When a conversation that broke is begun again: the one policy for all verbs.

A conversation is begun again only by a caller that knows how far it had come. A request that gets further between
two breaks may be begun again any number of times. Without progress there are a few tries, and none after `PATIENCE`
seconds, so that an error names a host that has vanished within half a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

from sshmap.errors import ConnectionDropped, ConversationBroken, HostLost

if TYPE_CHECKING:
    import tenacity

Value = TypeVar("Value")
#: errors after which a request can be made again on a new session; any other error is final
BREAKS = (ConversationBroken, ConnectionDropped)
#: breaks in a row without progress after which a host that had answered counts as lost, and one that had not
TRIES, FIRST_TRIES = 9, 5
#: seconds without progress after which no further try is begun
PATIENCE = 15.0


class Retries:
    """Counts the breaks of one request to one host, and says when the host counts as lost.

    A request that got further between two breaks begins to count anew.

    Args:
        progress: returns something that differs whenever the request has got further.
    """

    def __init__(self, progress: Callable[[], object]) -> None:
        self._progress = progress
        self._last = progress()
        self._since = time.monotonic()
        self._breaks = 0
        #: whether a session with the host was opened
        self.opened = False

    def is_lost(self, error: BaseException | None) -> bool:
        """Count a break, and say whether the host counts as lost now."""
        if (now := self._progress()) != self._last:
            self._last, self._since, self._breaks = now, time.monotonic(), 0
        self._breaks += 1
        # a server that drops connections before login (MaxStartups) lets some through
        patient = self.opened or isinstance(error, ConnectionDropped)
        return self._breaks >= (TRIES if patient else FIRST_TRIES) or time.monotonic() - self._since > PATIENCE

    def uncount_break(self) -> None:
        """Do not count the break that comes next: the session was one kept from before, and was dead already."""
        self._breaks -= 1


def persist(retries: Retries, talk: Callable[[], Iterable[Value]]) -> Generator[Value]:
    """Call ``talk``, and again after each break, passing on its values, until a call ends or the host counts as lost.

    Args:
        retries: counts the breaks and looks for progress between them.
        talk: opens a session and makes the rest of the request.

    Raises:
        HostLost: the error of the last break.
    """
    try:
        yield from talk()
    except BREAKS as exc:
        if retries.is_lost(exc):
            raise
    else:
        return
    for attempt in _retrying(retries):
        with attempt:
            yield from talk()


def again(call: Callable[[], Value]) -> Value:
    """Do something that may be done twice, on a connection of its own; do it again, some times, if the connection breaks.

    Raises:
        HostLost: the error of the last break.
    """
    (value,) = persist(Retries(lambda: None), lambda: [call()])
    return value


def _retrying(retries: Retries) -> tenacity.Retrying:
    import tenacity  # only a broken session needs it

    def is_lost(state: tenacity.RetryCallState) -> bool:
        return retries.is_lost(state.outcome.exception() if state.outcome else None)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BREAKS), stop=is_lost, reraise=True,
        wait=tenacity.wait_exponential(multiplier=0.05, max=2) + tenacity.wait_random(0, 0.3),
    )  # fmt: skip


def breaks(error: HostLost) -> bool:
    """Say whether an error is a break, after which the same request may succeed."""
    return isinstance(error, BREAKS)
