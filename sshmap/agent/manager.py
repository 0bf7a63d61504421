"""The daemon of a host: cotyledon's service manager with N workers, a courier and a warm agent.

There is one per root, which holds a lock. The manager starts a process that died again, and the new process
gives back the tasks that its predecessor had claimed. The only file that knows cotyledon.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import time

import cotyledon
from cotyledon import types

from sshmap.agent.daemon.courier import Courier
from sshmap.agent.daemon.worker import Worker
from sshmap.agent.execution.processes import become_subreaper
from sshmap.agent.execution.strays import end_strays
from sshmap.agent.host.lifecycle import LOCK, note_daemon
from sshmap.agent.host.title import set_title
from sshmap.agent.session.listener import Listener
from sshmap.agent.shuffle import sweep
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.layout import Root, check_root
from sshmap.store.tasks import Tasks

GRACE = 5
#: how the manager starts the others; macOS's libraries do not work in a forked process
_START = "fork" if sys.platform == "linux" else "spawn"
#: seconds a new process waits for the lock of the one it replaces
SLOT_LIMIT = 30.0


def run_daemon(root: Root) -> None:
    """Run the daemon of a root until it is told to stop; return at once if there is one already.

    It closes its stdout when it holds its lock, which tells the process that started it.
    """
    if not locks.try_lock(root, LOCK):
        return
    set_title("daemon", str(root.path))
    note_daemon(root)
    os.dup2(2, 1)
    cluster = root.read_cluster()
    locks.share_maintenance(root)
    recover(root)
    count = cluster.workers or os.cpu_count() or 1
    # forked processes share the memory of what is imported, until a garbage collection writes to it
    gc.collect()
    gc.freeze()
    manager = cotyledon.ServiceManager(graceful_shutdown_timeout=GRACE, mp_context=multiprocessing.get_context(_START))
    manager.add(ListenerService, args=(str(root.path),))
    manager.add(WorkerService, workers=count, args=(str(root.path),))
    manager.add(CourierService, args=(str(root.path), cluster.idle_stop))
    manager.run()


def recover(root: Root) -> None:
    """Put right what killed processes left: their commands, claims, half-written files, swaps."""
    end_strays(str(root.path), str(root.tmp))
    locks.sweep_scratch(root)
    store = Store(root)
    with contextlib.closing(store):
        store.recover()
        tasks = Tasks(store.ledger)
        tasks.requeue(slot for slot in tasks.running_slots() if not locks.is_held(root, f"worker-{slot}"))
        sweep(store)
        store.insist(lambda: forget_makers(store))


def forget_makers(store: Store) -> None:
    """Delete the makers that no key and no job refers to any more."""
    with store.ledger.change():
        store.keys.forget_makers()


def _own(root: Root, name: str) -> None:
    """Take the lock of a slot, or end this process; the former holder is given some time to end."""
    set_title(name.replace("-", " "), str(root.path))
    if not locks.try_lock(root, name, SLOT_LIMIT):
        sys.exit(1)
    locks.share_maintenance(root)
    locks.sweep_scratch(root)


class WorkerService(cotyledon.Service):
    """A worker process."""

    name = "sshmap-worker"

    def __init__(self, worker_id: types.WorkerId, root: str) -> None:
        super().__init__(worker_id)
        become_subreaper()
        self._root = Root(root)

    def run(self) -> None:
        """Work until terminated."""
        _own(self._root, f"worker-{self.worker_id}")
        Worker(self._root, self.worker_id).run_forever()

    def terminate(self) -> None:
        """Give the claimed tasks back to the queue; this attempt does not count against them."""
        with contextlib.closing(Store(self._root)) as store:
            Tasks(store.ledger).give_back(self.worker_id)


class CourierService(cotyledon.Service):
    """The courier process; it also stops a daemon that nobody has used for long."""

    name = "sshmap-courier"

    def __init__(self, worker_id: types.WorkerId, root: str, idle_stop: float) -> None:
        super().__init__(worker_id)
        self._root = Root(root)
        self._idle_stop = idle_stop

    def run(self) -> None:
        """Send fan-out files until terminated."""
        _own(self._root, "courier")
        with contextlib.closing(Store(self._root)) as store:
            sweep(store)
        courier = Courier(self._root)
        pause = min(30.0, self._idle_stop / 4) if self._idle_stop else 30.0
        while True:
            courier.look_once(pause)
            if not self._root.cluster_file.exists():
                os.kill(os.getppid(), signal.SIGKILL)
            if self._idle_stop and not courier.active and _idle(self._root) > self._idle_stop:
                os.kill(os.getppid(), signal.SIGTERM)


class ListenerService(cotyledon.Service):
    """The warm agent: serves sessions that reach the daemon's socket."""

    name = "sshmap-listener"

    def __init__(self, worker_id: types.WorkerId, root: str) -> None:
        super().__init__(worker_id)
        self._root = Root(root)

    def run(self) -> None:
        """Serve until terminated."""
        _own(self._root, "listener")
        Listener(self._root).run_forever()


def _idle(root: Root) -> float:
    """Seconds since a client last used the host."""
    try:
        return time.time() - (root.locks / "used").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def main(root: str) -> None:
    """Run the daemon from the command line, its output in the root's log."""
    place = Root(root)
    check_root(place.path)
    log = os.open(place.logs / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 2)
    os.umask(0o022)
    run_daemon(place)
