"""Commits what tasks made: the outputs of several quick tasks in one transaction.

A task counts as done with the commit and not before. A worker that is killed in between loses work: its
tasks go back to the queue, and their outputs, which nobody has seen, are made again.
"""

from __future__ import annotations

import os
import time

from sshmap.agent.daemon.attempt import hold_inputs
from sshmap.agent.daemon.outputs import Made
from sshmap.agent.daemon.task_directory import discard
from sshmap.agent.host.wake import wake
from sshmap.errors import Cancelled, CommandsFailed, SshmapError, TimeLimit
from sshmap.model import Verb, base_name
from sshmap.placement import Ring
from sshmap.store.commit import Outcome, Staged, Store
from sshmap.store.endings import Endings
from sshmap.store.files import mapped_error
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import names_digest
from sshmap.store.task_ends import Usage
from sshmap.store.tasks import Task, Tasks

#: tasks that are committed together
MOST = 32
#: seconds for which a finished task may wait for others
LONGEST = 0.3
#: seconds before a failed task is tried again: at first, twice as long each time, and at most
FIRST_PAUSE, MOST_PAUSE = 0.5, 60.0


class Commits:
    """The finished tasks of one worker.

    Args:
        store: the host's keys.
        tasks: the host's tasks.
        outbox: the host's fan-out files for others.
    """

    def __init__(self, store: Store, tasks: Tasks, outbox: Outbox) -> None:
        self._store, self._tasks, self._outbox = store, tasks, outbox
        self._endings = Endings(store.ledger)
        self._cluster = store.root.read_cluster()
        self._ring = Ring(self._cluster.ring)
        self._waiting: list[Made] = []
        #: paths of files that were moved from there into data/ or the outbox
        self._moved: set[str] = set()
        self._since = 0.0
        #: tasks whose outputs were lost while they waited
        self._repeated: set[int] = set()

    def is_suspect(self, task: Task) -> bool:
        """Say whether a task has to be committed by itself, waiting for no others.

        That is so if a worker died over it, perhaps killed by its command; if its outputs were lost before; or if it swaps
        keys, as a swap that was rolled back cannot be tried again.
        """
        return task.replaces or task.id in self._repeated or (task.attempt > 1 and self._tasks.was_lost(task))

    def add(self, made: Made) -> None:
        """Take a finished task; commit it, with those that wait, if enough wait or have waited long enough."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(made)
        if self.is_suspect(made.task) or len(self._waiting) >= MOST or time.monotonic() - self._since > LONGEST:
            self.flush()

    def flush(self) -> None:
        """Commit the tasks that wait; if they cannot be committed together, commit each by itself, or let it fail."""
        waiting = self._waiting
        if not (len(waiting) > 1 and self._is_committed(waiting)):
            for made in waiting:
                self._commit_or_fail(made)
        self.drop()

    def drop(self) -> None:
        """Forget the tasks that wait, and delete their files, but not those that were moved into data/ or the outbox."""
        waiting, self._waiting = self._waiting, []
        discard(path for made in waiting for path in made.litter if path not in self._moved)
        self._moved.clear()

    def _commit_or_fail(self, made: Made) -> None:
        try:
            if all(os.path.exists(item.path) for item in made.files):
                self._commit([made])
            else:
                self._repeat(made.task)
        except (SshmapError, OSError) as exc:
            # before the failure is recorded, as the disk may be full
            discard([*made.litter, *(item.path for item in made.files)])
            self.fail(made.task, exc, made.usage)

    def _repeat(self, task: Task) -> None:
        """Queue a task again whose outputs were lost while they waited.

        The command of another task deleted them, or a commit together with another task was rolled back.
        """
        self._repeated.add(task.id)
        with self._store.ledger.change():
            self._tasks.release([task.id])

    def fail(self, task: Task, exc: SshmapError | OSError, usage: Usage | None) -> None:
        """Record that an attempt failed, and its task with it, unless that may be tried again or its run was ended.

        Args:
            task: the task.
            exc: why.
            usage: what the attempt took, if its command had ended.
        """
        error = mapped_error(exc, task.output) if isinstance(exc, OSError) else exc
        self._store.insist(lambda: self._note_failure(task, error, usage))
        if isinstance(error, CommandsFailed | TimeLimit) and self._endings.halt_unfollowed(task.run, task.limits):
            wake(self._store.root)

    def _note_failure(self, task: Task, error: SshmapError, usage: Usage | None) -> None:
        code = error.code if isinstance(error, CommandsFailed) else 0
        why = (type(error).__name__, error.message, code)
        with self._store.ledger.change():
            if not self._tasks.owned([task]):
                return
            if isinstance(error, Cancelled):
                self._tasks.cancel(task.id, usage)
            elif isinstance(error, CommandsFailed | TimeLimit) and task.failures < task.limits.retries:
                pause = min(MOST_PAUSE, FIRST_PAUSE * 2.0 ** min(task.failures, 20))
                self._tasks.try_again(task.id, *why, usage, pause=pause)
            else:
                self._tasks.fail(task.id, *why, usage)

    def _is_committed(self, waiting: list[Made]) -> bool:
        """Commit tasks in one transaction; say whether that worked: one that cannot be committed rolls back all."""
        try:
            self._commit(waiting)
        except (SshmapError, OSError):
            return False
        return True

    def _commit(self, waiting: list[Made]) -> None:
        if any(made.task.verb is Verb.FANOUT for made in waiting):
            self._read_ring()
        peers = self._prepare(waiting)
        with self._store.committing():
            ours = {task.id for task in self._tasks.owned(made.task for made in waiting)}
            counted = [made for made in waiting if made.task.id in ours]
            hold_inputs(self._store, counted)
            for made in counted:
                self._commit_one(made, peers)
            are_posted = self._end(counted, peers)
            self._store.ledger.bump()
        if are_posted:
            wake(self._store.root, "courier")

    def _prepare(self, waiting: list[Made]) -> dict[str, str]:
        """Prepare the commit of what stays here; return for each file the host that it has to be sent to, or nothing."""
        peers = {item.path: self._peer(made.task, item) for made in waiting for item in made.files}
        self._store.prepare([item for made in waiting for item in made.files if not peers[item.path]])
        return peers

    def _end(self, counted: list[Made], peers: dict[str, str]) -> bool:
        """Record that tasks have ended, but for those with files in the outbox; say whether there are any of these."""
        done: dict[int, int] = {}
        sending: dict[int, int] = {}
        ran: dict[int, list[float]] = {}
        for made in counted:
            ended = sending if any(peers[item.path] for item in made.files) else done
            ended[made.task.id] = sum(item.size for item in made.files)
            if made.usage:
                ran.setdefault(made.task.run, []).append(made.usage.ran)
        usages = {made.task.id: made.usage for made in counted}
        self._tasks.finish(done, usages)
        self._tasks.send(sending, usages)
        for run, seconds in ran.items():
            self._tasks.pace(run, seconds)
        return bool(sending)

    def _peer(self, task: Task, item: Staged) -> str:
        """Return the host that an output has to be sent to; nothing if it belongs here, as those of map and merge always do."""
        owner = self._ring.place(item.name) if task.verb is Verb.FANOUT else self._cluster.host
        return "" if owner == self._cluster.host else owner

    def _commit_one(self, made: Made, peers: dict[str, str]) -> None:
        """Make a task's files keys, or put them into the outbox; within a transaction."""
        task = made.task
        for item in made.files:
            if peer := peers[item.path]:
                self._post(task, item, peer)
            elif self._store.commit(item) is not Outcome.KEPT:
                self._moved.add(item.path)
        if task.verb is Verb.FANOUT:
            names = [base_name(item.name) for item in made.files]
            self._outbox.record_fanout(task.output, task.members[0], task.receipt, len(names), names_digest(names))

    def _post(self, task: Task, item: Staged, peer: str) -> None:
        """Put a file into the outbox; within a transaction."""
        number = self._outbox.post(
            task.id, peer, item.name, item.size, item.digest, task.receipt, replaces=task.replaces
        )
        os.rename(item.path, f"{self._store.root.outbox}/{number}")
        self._moved.add(item.path)

    def _read_ring(self) -> None:
        """Place by the ring the host was told last; it may change while there is no data."""
        cluster = self._store.root.read_cluster()
        if cluster.fingerprint != self._cluster.fingerprint:
            self._ring = Ring(cluster.ring)
        self._cluster = cluster
