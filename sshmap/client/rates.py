"""How many tasks end and how many commands run, over time, in few steps; pure."""

from __future__ import annotations

import math

#: steps that are returned at most
MOST_STEPS = 120


class Rates:
    """Tasks that end and commands that run, over time, in equal steps; these double where there would be too many.

    Of the commands that run, each step has the area below their number within it that begins or ends there, and by how
    much that number has changed at its end; so a command costs the same however long it runs.
    """

    def __init__(self) -> None:
        self.step = 0.05
        #: by step: done, failed, area, change
        self._rows: dict[int, list[float]] = {}
        self._low, self._high = math.inf, -math.inf

    def ran(self, began: float, seconds: float) -> None:
        """Note that a command ran from a time on."""
        for at, sign in ((began, 1), (began + seconds, -1)):
            index = self._place(at)
            row = self._rows.setdefault(index, [0, 0, 0, 0])
            row[2] += sign * ((index + 1) * self.step - at)
            row[3] += sign

    def ended(self, at: float, *, failed: bool) -> None:
        """Note that a task ended."""
        self._rows.setdefault(self._place(at), [0, 0, 0, 0])[failed] += 1

    def rows(self) -> list[tuple[int, int, float]]:
        """Return of each step how many tasks were done and failed in it, and how many commands ran on the average."""
        tasks = sum(row[0] + row[1] for row in self._rows.values())
        while len(span := self._span()) > max(20, min(MOST_STEPS, tasks)):
            self._double()
        running, found = 0.0, []
        for index in span:
            done, failed, area, change = self._rows.get(index, (0, 0, 0, 0))
            found.append((int(done), int(failed), round(max(0.0, running + area / self.step), 3)))
            running += change
        return found

    @property
    def begin(self) -> float:
        """When the first step begins, in seconds since 1970."""
        return self._span().start * self.step

    def _span(self) -> range:
        return range(int(self._low), int(self._high) + 1) if self._rows else range(0)

    def _place(self, at: float) -> int:
        """Return the step of a time, after making steps as long as that needs."""
        while True:
            index = math.floor(at / self.step)
            low, high = min(self._low, index), max(self._high, index)
            if high - low < 2 * MOST_STEPS:
                self._low, self._high = low, high
                return index
            self._double()

    def _double(self) -> None:
        merged: dict[int, list[float]] = {}
        for index, (done, failed, area, change) in self._rows.items():
            row = merged.setdefault(index // 2, [0, 0, 0, 0])
            row[0] += done
            row[1] += failed
            # what changes in the first half runs through all of the second
            row[2] += area + (change * self.step if index % 2 == 0 else 0)
            row[3] += change
        self._rows, self.step = merged, 2 * self.step
        self._low, self._high = self._low // 2, self._high // 2
