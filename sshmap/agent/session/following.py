"""A run on one host, followed until it is over or only waits for hosts that cannot be reached.

The daemon does the work; the session starts the daemon again if that ends. Looking at the ledger costs the same for
any number of tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sshmap.agent.host import lifecycle
from sshmap.errors import HostLost, HostNotReady
from sshmap.limits import Limits
from sshmap.model import Receipt, TaskState, Verb, show
from sshmap.protocol.messages import Failure, Progress, RunEnded, Slow
from sshmap.store import locks, memory
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.jobs import Jobs, Run
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox
from sshmap.store.paces import FEWEST, Paces
from sshmap.store.space import Space, waiting_for_space
from sshmap.store.tasks import Failed, Tasks

_MOST_FAILURES = 1000
#: seconds between looks at the ledger: a share of the time that the job has taken so far, within these limits
_FASTEST, _SLOWEST, _SHARE = 0.003, 0.25, 0.005
#: seconds between looks whether the daemon lives
_DAEMON_LOOK = 1.0
#: seconds without progress while only files for peers that do not answer are left
STUCK_LIMIT = 10.0
#: seconds without progress after which a run counts as waiting for space
_SPACE_LIMIT = 2.0
#: a task is named as slow that takes so many times the median of the finished ones, and so many seconds; most that are named
_TIMES, _LEAST_SLOW, MOST_SLOW = 3.0, 2.0, 5
#: looks in a row that find no living worker (or courier) while tasks wait for one, after which that is an error
MISSING_LOOKS = 15


class Following:
    """One run as one client follows it.

    Args:
        store: the host's store.
        run: the run, as the client has opened it.
        verb: shape of its job.
        kept: returns how many tasks were not queued, as their outputs are there.
        limits: what the run is allowed.
    """

    def __init__(self, store: Store, run: Run, verb: Verb, kept: Callable[[], int], limits: Limits) -> None:
        self._store, self._run, self._verb, self._kept = store, run, verb, kept
        #: whether the client halts the run by what it counts on all hosts
        self._counted = bool(limits.halt_failed or limits.halt_percent)
        self._jobs, self._tasks, self._outbox = Jobs(store.ledger), Tasks(store.ledger), Outbox(store.ledger)
        self._endings, self._paces = Endings(store.ledger), Paces(store.ledger)
        self._slow: tuple[Slow, ...] = ()
        #: memory that has to be available for a task to begin, and what there is, where tasks wait for it
        self._memory_free, self._short = limits.memory_free, 0
        self._space = Space(store.root)
        #: peers that have been stuck at some time
        self._unreached: set[str] = set()

    def follow(self, report: Callable[[Progress], None], left: Callable[[float], bool]) -> RunEnded:
        """Wait until the run is over on this host, and report progress; the daemon is kept alive meanwhile.

        Args:
            report: called with the progress whenever it has changed.
            left: waits so many seconds for the client to leave and says whether it did.

        Raises:
            HostLost: the client left; the job goes on without it.
            HostNotReady: the daemon or those of its processes that are needed do not stay up.
        """
        version, looked, begun = -1, 0.0, time.monotonic()
        progress, moved, missing = Progress(), begun, 0
        reached: tuple[int, ...] = ()
        while True:
            if time.monotonic() - looked > _DAEMON_LOOK:
                lifecycle.ensure_running(self._store.root)
                if self._counted:
                    self._endings.note_followed(self._run.seq)
                if self._look_for_odd(progress):
                    version = -1
                missing = self._look_for_processes(progress, missing)
                looked = time.monotonic()
            if (now := self._store.ledger.data_version()) != version:
                version = now
                if (latest := self.progress()) != progress:
                    progress = latest
                    report(progress)
                if (further := self._reached(progress)) != reached:
                    reached, moved, missing = further, time.monotonic(), 0
            if self._is_over(progress, moved):
                return self.ended()
            if left(min(_SLOWEST, max(_FASTEST, _SHARE * (time.monotonic() - begun)))):
                raise HostLost("the client left")

    def _reached(self, progress: Progress) -> tuple[int, ...]:
        """Return what changes as the run gets further, or when a peer is found stuck that was not before.

        Not which peers are stuck: one that lets the courier in and refuses its files comes and goes among them.
        """
        self._unreached |= progress.stuck.keys()
        waits = progress.sending and not (progress.queued or progress.running)
        files = self._outbox.waiting(self._run.seq) if waits else 0
        return (
            progress.queued, progress.running, progress.sending, progress.done, progress.failed, progress.size, files,
            len(self._unreached),
        )  # fmt: skip

    def progress(self) -> Progress:
        """Return how far the run has come."""
        states, size = self._jobs.states(self._run)
        count = {state.value: states.get(state.value, 0) for state in TaskState}
        stuck = self._outbox.stuck(self._run.seq) if count["sending"] else {}
        barred = tuple(self._outbox.barred()) if stuck else ()
        return Progress(
            queued=count["queued"], running=count["running"], sending=count["sending"], done=count["done"], failed=count["failed"],
            cancelled=count["cancelled"], size=size, stuck=stuck, barred=barred, kept=self._kept(), slow=self._slow,
            short_of_memory=self._short,
        )  # fmt: skip

    def _look_for_odd(self, progress: Progress) -> bool:
        """Look for slow tasks, and whether tasks wait for memory; say whether that has changed."""
        was, wanted = self._short, self._memory_free
        waits = wanted and progress.queued and not progress.running and memory.available() < wanted
        self._short = memory.available() if waits else 0
        return self._look_for_slow() or bool(was) != bool(self._short)

    def _look_for_slow(self) -> bool:
        """Look for running tasks that take much longer than the finished ones; say whether they are others than before."""
        tasks, median = self._paces.median(self._run.seq)
        found: tuple[Slow, ...] = ()
        if tasks >= FEWEST:
            late = self._tasks.late(self._run, time.time() - max(_LEAST_SLOW, _TIMES * median), MOST_SLOW)
            found = tuple(Slow(show(self._subject(*names)), int(time.time() - began), median) for *names, began in late)
        changed = {slow.key for slow in found} != {slow.key for slow in self._slow}
        self._slow = found
        return changed

    def _subject(self, members: str, output: str) -> str:
        return output if self._verb is Verb.MERGE else members.split("\n", 1)[0]

    def stale(self) -> Iterator[tuple[str, Receipt]]:
        """Go through fan-out directories that hold keys of other work, and the receipts to keep."""
        yield from self._tasks.stale(self._run)

    def _look_for_processes(self, progress: Progress, missing: int) -> int:
        """Look whether a worker (while tasks wait) or the courier (while files wait) lives; return how many looks found none."""
        root: Root = self._store.root
        role = "worker" if progress.queued or progress.running else "courier" if progress.sending else ""
        names = [path.name for path in root.locks.glob(f"{role}*")] if role else []
        if not role or any(locks.is_held(root, name) for name in names):
            return missing
        if missing >= MISSING_LOOKS:
            raise HostNotReady(f"the daemon's {role} does not stay up", hint=f"see {root.logs / 'daemon.log'}")
        return missing + 1

    def _is_over(self, progress: Progress, moved: float) -> bool:
        """Say whether there is nothing to wait for any more.

        Raises:
            NoSpace: tasks wait for space on the disk.
            HostNotReady: nobody queues the rest of the tasks, as the session that did so was killed.
        """
        stands = time.monotonic() - moved > STUCK_LIMIT
        if progress.queued or progress.running:
            self._check_space(progress, moved)
            return False
        if progress.sending:
            return bool(progress.stuck) and stands
        is_over = self._jobs.is_over(self._run.seq)
        if stands and not is_over:
            raise HostNotReady("not all tasks of the run were queued", hint="run the command again")
        return is_over

    def _check_space(self, progress: Progress, moved: float) -> None:
        """Raise NoSpace if all that happens is that tasks wait for space: those that are queued, and those that workers cannot give back."""
        if progress.sending or time.monotonic() - moved <= _SPACE_LIMIT:
            return
        slots = self._endings.running_slots(self._run.id) if progress.running else []
        waiting = [locks.hold_file(waiting_for_space(slot)) for slot in slots]
        if all(locks.is_held(self._store.root, name) for name in waiting) and (waiting or self._space.is_short()):
            raise self._space.error()

    def ended(self) -> RunEnded:
        """Return how the run has ended here, or how far it is."""
        progress = self.progress()
        failed = self._tasks.failed(self._run, _MOST_FAILURES) if progress.failed else ()
        return RunEnded(
            done=progress.done, failed=progress.failed, size=progress.size, kept=progress.kept, cancelled=progress.cancelled,
            ending=self._endings.reason(self._run.seq), failures=tuple(map(self._failure, failed)), stuck=progress.stuck,
            sending=progress.sending, busy=self._paces.total(self._run.seq),
            why={peer: self._outbox.why_stuck(peer) for peer in progress.stuck},
        )  # fmt: skip

    def _failure(self, task: Failed) -> Failure:
        subject = task.output if self._verb is Verb.MERGE else task.members[0]
        return Failure(
            key=show(subject), attempt=task.attempt, kind=task.kind, message=task.message, exit_code=task.exit_code
        )
