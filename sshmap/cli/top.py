"""`top`: the hosts and what they do right now, on the whole terminal; keys choose a task, cancel its run, show its log."""

from __future__ import annotations

import curses
import threading
import time

import msgspec

from sshmap.cli.escaping import clean, clean_lines
from sshmap.cli.printers import human_size, human_time
from sshmap.client.cluster import Cluster
from sshmap.errors import SshmapError
from sshmap.protocol.messages import Seen, TaskNow

#: seconds between two looks at the hosts, and milliseconds for which a key is awaited
_LOOK, _KEY = 1.0, 200
_KEYS = "up/down choose   c cancel   l log   q quit"
_ESCAPE = 27


class View(msgspec.Struct, kw_only=True):
    """What is shown."""

    seen: dict[str, Seen] = {}
    failures: dict[str, SshmapError] = {}
    #: bytes a second that each host makes
    rates: dict[str, float] = {}

    def take(self, seen: dict[str, Seen], failures: dict[str, SshmapError], seconds: float) -> None:
        """Take what the hosts say now, so many seconds after the last time."""
        self.rates = {
            name: max(0, now.size - self.seen[name].size) / seconds if name in self.seen and seconds else 0.0
            for name, now in seen.items()
        }
        self.seen, self.failures = seen, failures

    @property
    def tasks(self) -> list[tuple[str, TaskNow]]:
        """All running tasks with their hosts, the oldest first."""
        every = [(name, task) for name, now in self.seen.items() for task in now.tasks]
        return sorted(every, key=lambda row: -row[1].seconds)

    def lines(self, chosen: int, height: int) -> list[str]:
        """Write the screen: the hosts, then as many running tasks as there is room for, the chosen one among them.

        Args:
            chosen: place of a task, which is marked.
            height: lines that there are.
        """
        head = f"{'host':<16} {'queued':>8} {'running':>8} {'sending':>8} {'made/s':>10} {'load':>11} {'free':>10}"
        rows = [head, *(self._host(name, now) for name, now in self.seen.items())]
        rows += [f"{name:<16} {clean(error.message)}" for name, error in self.failures.items()]
        rows += ["", f"{'host':<16} {'run':>6} {'worker':>6} {'age':>9}  key"]
        room = max(1, height - len(rows))
        first = max(0, chosen - room + 1)
        for place, (name, task) in enumerate(self.tasks[first : first + room], start=first):
            mark = ">" if place == chosen else " "
            rows.append(
                f"{name:<16} {task.number:>6} {task.slot:>6} {human_time(task.seconds):>9} {mark}{clean(task.key)}"
            )
        return rows

    def _host(self, name: str, now: Seen) -> str:
        load = f"{now.load:.1f}/{now.cores}"
        rate = human_size(self.rates.get(name, 0.0))
        return f"{name:<16} {now.queued:>8} {len(now.tasks):>8} {now.sending:>8} {rate:>10} {load:>11} {human_size(now.free):>10}"


def show(cluster: Cluster) -> None:
    """Show the hosts until the user quits."""
    curses.wrapper(lambda screen: _Screen(screen, cluster).run())


class _Screen:
    """The terminal while `top` has it.

    Args:
        screen: curses' window.
        cluster: whose hosts are shown.
    """

    def __init__(self, screen: curses.window, cluster: Cluster) -> None:
        self._screen, self._cluster = screen, cluster
        self._view, self._chosen, self._said = View(), 0, ""
        self._over = threading.Event()
        screen.timeout(_KEY)
        if curses.tigetstr("civis"):
            curses.curs_set(0)

    def run(self) -> None:
        """Draw and obey keys until one of them quits."""
        looking = threading.Thread(target=self._look, name="top", daemon=True)
        looking.start()
        try:
            while self._obey(self._screen.getch()):
                self._chosen = max(0, min(self._chosen, len(self._view.tasks) - 1))
                height = self._screen.getmaxyx()[0]
                self._draw(self._view.lines(self._chosen, height - 1), self._said or _KEYS)
        finally:
            self._over.set()

    def _look(self) -> None:
        last = 0.0
        while not self._over.is_set():
            seen, failures = self._cluster.look()
            now = time.monotonic()
            self._view.take(seen, failures, now - last if last else 0.0)
            last = now
            self._over.wait(_LOOK)

    def _draw(self, lines: list[str], foot: str) -> None:
        height, width = self._screen.getmaxyx()
        self._screen.erase()
        for place, line in enumerate(lines[: height - 1]):
            self._screen.addnstr(place, 0, line, width - 1)
        self._screen.addnstr(height - 1, 0, foot, width - 1, curses.A_REVERSE)
        self._screen.refresh()

    def _obey(self, key: int) -> bool:
        """Do what a key means; say whether to go on."""
        if key in (ord("q"), _ESCAPE):
            return False
        if key in (curses.KEY_DOWN, ord("j")):
            self._chosen += 1
        elif key in (curses.KEY_UP, ord("k")):
            self._chosen -= 1
        elif key in (ord("c"), ord("l")) and self._view.tasks:
            task = self._view.tasks[min(self._chosen, len(self._view.tasks) - 1)][1]
            (self._cancel if key == ord("c") else self._show_log)(task)
        elif key != -1:
            self._said = ""
        return True

    def _cancel(self, task: TaskNow) -> None:
        self._draw(self._view.lines(self._chosen, self._screen.getmaxyx()[0] - 1), f"cancel run {task.number}? y/n")
        self._screen.timeout(-1)
        answer = self._screen.getch()
        self._screen.timeout(_KEY)
        if answer == ord("y"):
            try:
                self._cluster.cancel(task.run)
                self._said = f"cancelled run {task.number}"
            except SshmapError as exc:
                self._said = clean(str(exc))

    def _show_log(self, task: TaskNow) -> None:
        """Show what the ended attempts of a task's run have said, until a key is pressed."""
        lines: list[str] = []
        try:
            for host, row in self._cluster.attempts(task.run, stderr=True):
                if row.stderr:
                    lines.append(clean(f"==> {row.key} on {host}, attempt {row.attempt}"))
                    lines += clean_lines(row.stderr.decode("utf-8", "replace")).splitlines()
        except SshmapError as exc:
            lines = [clean(str(exc))]
        self._draw(lines[-self._screen.getmaxyx()[0] + 1 :] or ["nothing was said so far"], "any key goes back")
        self._screen.timeout(-1)
        self._screen.getch()
        self._screen.timeout(_KEY)
