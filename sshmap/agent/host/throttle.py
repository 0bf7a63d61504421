"""Keeping to a rate: reading or sending waits so that no more than so many bytes a second go through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Throttle:
    """Keeps to one rate. May be used by several threads, which keep to it together.

    Args:
        rate: bytes a second; 0 if that is not limited.
        clock: returns seconds.
        sleep: waits for some seconds.
    """

    def __init__(
        self, rate: int, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.rate, self._clock, self._sleep = rate, clock, sleep
        self._guard = threading.Lock()
        #: when the bytes so far will have gone through at this rate
        self._due = clock()

    def wait(self, size: int) -> None:
        """Wait until so many bytes more are within the rate; time in which less went through is not made up for."""
        if self.rate and size:
            now = self._clock()
            with self._guard:
                self._due = due = max(self._due, now) + size / self.rate
            self._sleep(due - now)


class Throttles:
    """One throttle for each of several things, such as runs. Safe for several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._throttles: dict[int, Throttle] = {}

    def of(self, number: int, rate: int) -> Throttle:
        """Return the throttle of a thing, which keeps to this rate from now on."""
        with self._guard:
            throttle = self._throttles.get(number)
            if throttle is None or throttle.rate != rate:
                throttle = self._throttles[number] = Throttle(rate)
            return throttle
