"""A worker: claims tasks, has their commands run, commits their outputs.

Holds the lock of its slot as long as it lives; when the lock is free, whatever the slot
had claimed goes back to the queue. One task at a time; the commands run below a supervisor
that outlives the worker just long enough to end them.
"""

from __future__ import annotations

import contextlib
import time

from sshmap.agent.daemon.attempt import Attempts
from sshmap.agent.daemon.commits import MOST, Commits
from sshmap.agent.daemon.task_directory import TaskDirectory
from sshmap.agent.execution.commands import Commands
from sshmap.agent.execution.shell import task_environment
from sshmap.agent.host.wake import Sleeper, wake
from sshmap.agent.shuffle import FULL_OUTBOX
from sshmap.errors import NoSpace, SshmapError
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.endings import Endings
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox
from sshmap.store.space import Space, waiting_for_space
from sshmap.store.tasks import Task, Tasks

#: seconds after which an idle worker ends its supervisor and looks into the ledger without being woken
IDLE_LOOK = 30.0
#: seconds after which it looks while tasks are queued that it may not begin yet
WAITING_LOOK = 1.0
#: seconds until a worker tries again to claim a task on a full disk
FULL_LOOK = 1.0
#: seconds that the tasks which are claimed together are expected to take
QUICK = 0.3
#: seconds for which the free space of the disk is not read again
_SPACE_LOOK = 0.2
#: seconds for which the size of the outbox is not read again
_OUTBOX_LOOK = 0.25


class Worker:
    """One worker slot of a daemon.

    Args:
        root: the host's root.
        slot: number of the slot; its lock must be held by this process.
    """

    def __init__(self, root: Root, slot: int) -> None:
        self.root = root
        self.slot = slot
        self.store = Store(root)
        self.tasks, self.outbox = Tasks(self.store.ledger), Outbox(self.store.ledger)
        self._executor = Commands(task_environment(root.read_cluster().host, str(root.path)))
        self._attempts = Attempts(self.store, self._executor, TaskDirectory(root))
        self._commits = Commits(self.store, self.tasks, self.outbox)
        self._endings = Endings(self.store.ledger)
        self._sleeper = Sleeper(root, f"worker-{slot}")
        self._space, self._short, self._space_seen = Space(root), False, 0.0
        #: the run of the tasks done last, and the seconds that one of them took
        self._run, self._pace = 0, QUICK
        self._outbox_full, self._outbox_seen = False, 0.0

    def run_forever(self) -> None:
        """Work until the process is ended."""
        # made now, as there may be no room for it when it is needed
        locks.let_go(locks.hold(self.root, waiting_for_space(self.slot), ""))
        self.store.insist(lambda: self.tasks.requeue([self.slot]))
        while True:
            try:
                if self.work_once():
                    continue
                # a run may be over, of which somebody has to be told
                wake(self.root, "courier")
                if self._sleeper.wait(self._patience()):
                    continue
            except NoSpace:
                self._start_over()
            if self.tasks.backlog(1) == 0:
                self._executor.close()

    def _patience(self) -> float:
        """Return the seconds after which to look into the ledger without being woken: tasks may wait for time or memory."""
        if not self.tasks.backlog(1):
            return IDLE_LOOK
        due = self.tasks.next_due() - time.time()
        return min(WAITING_LOOK, max(0.01, due)) if due > 0 else WAITING_LOOK

    def _start_over(self) -> None:
        """Wait until the disk has room for a change of the ledger, then give back the claimed tasks; who follows their run sees that."""
        self._commits.drop()
        held = locks.hold(self.root, waiting_for_space(self.slot), "")
        try:
            while True:
                self._sleeper.wait(FULL_LOOK)
                with contextlib.suppress(NoSpace):
                    self.store.insist(lambda: self.tasks.give_back(self.slot))
                    return
        finally:
            locks.let_go(held)

    def work_once(self) -> bool:
        """Claim some tasks and run them; say whether there were any.

        Several are claimed only of a run whose last tasks were quick. If these take much longer, or the run is ending, those
        not begun are given back.
        """
        tasks = self._claim()
        self._attempts.look_up(tasks)
        began, number = time.monotonic(), 0
        for number, task in enumerate(tasks, start=1):
            self._attempt(task)
            if time.monotonic() - began > 2 * QUICK or self._endings.reason(task.run):
                self._give_back(tasks[number:])
                break
        self._commits.flush()
        if tasks:
            self._run, self._pace = tasks[0].run, (time.monotonic() - began) / number
        return bool(tasks)

    def _claim(self) -> list[Task]:
        count = 1
        if self._pace < QUICK:
            count = max(1, min(MOST, int(QUICK / self._pace), self.tasks.backlog(2 * MOST) // 2))
        tasks: list[Task] = []
        if self._is_disk_short():
            return tasks
        fanouts = not self._is_outbox_full()
        self.store.insist(
            lambda: tasks.extend(self.tasks.claim(self.slot, count, fanouts=fanouts, run=self._run or -1))
        )
        return tasks

    def _is_disk_short(self) -> bool:
        """Say whether no task is to begin, as the disk has less free than its reserve; not looked at for each quick task."""
        now = time.monotonic()
        if now - self._space_seen > _SPACE_LOOK:
            self._short, self._space_seen = self._space.is_short(), now
            # it was used up when the disk was full, and whoever has made room since does not know of it
            self.root.load_ballast()
        return self._short

    def _is_outbox_full(self) -> bool:
        """Say whether fan-outs have to wait for the courier; the size of the outbox is not read for each quick task."""
        now = time.monotonic()
        # that it is full is never taken as known: whoever makes room wakes this worker once
        if self._outbox_full or now - self._outbox_seen > _OUTBOX_LOOK:
            self._outbox_full, self._outbox_seen = self.outbox.size() >= FULL_OUTBOX, now
        return self._outbox_full

    def _give_back(self, tasks: list[Task]) -> None:
        if tasks:
            self.store.insist(lambda: self._release(tasks))
            wake(self.root, "worker")

    def _release(self, tasks: list[Task]) -> None:
        with self.store.ledger.change():
            self.tasks.release([task.id for task in tasks])

    def _attempt(self, task: Task) -> None:
        """Run one task to its end: finished, or failed with its reason."""
        if self._commits.is_suspect(task):
            self._commits.flush()
        try:
            self._commits.add(self._attempts.make(task, self._commits.flush))
        except (SshmapError, OSError) as exc:
            self._commits.fail(task, exc, self._attempts.usage)
