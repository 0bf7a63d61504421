"""A lane: a bounded queue of sources, between the thread that deals them out and the thread that sends them to a host."""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")
#: values in a lane at which `put` waits
FULL = 1024


class Lane(Generic[Value]):
    """Hands values from one thread to another."""

    def __init__(self) -> None:
        self._values: collections.deque[Value] = collections.deque()
        self._changed = threading.Condition()
        self._open = True
        self._taken_up = True
        #: number of values that will never be taken, as `give_up` was called
        self.given_up = 0

    def put(self, values: Sequence[Value]) -> None:
        """Add some values; wait while the lane is full. After `give_up` they are only counted."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._values) < FULL or not self._taken_up)
            if self._taken_up:
                self._values.extend(values)
                self._changed.notify_all()
            else:
                self.given_up += len(values)

    def end(self) -> None:
        """Say that no more values will be put in."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until there is a value or the lane has ended; say whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._values or not self._open)
            return bool(self._values)

    def take(self, seconds: float) -> Value | None:
        """Take the next value; None if none came within so many seconds, or none will."""
        with self._changed:
            self._changed.wait_for(lambda: self._values or not self._open, seconds)
            if not self._values:
                return None
            if len(self._values) == FULL:
                self._changed.notify_all()
            return self._values.popleft()

    @property
    def ended(self) -> bool:
        """Whether no more values can be taken."""
        with self._changed:
            return not self._open and not self._values

    def give_up(self) -> None:
        """Say that no more values will be taken, so that the thread that puts them in need not wait."""
        with self._changed:
            self._taken_up = False
            self.given_up += len(self._values)
            self._values.clear()
            self._changed.notify_all()
