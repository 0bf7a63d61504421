"""`--notify-host`: tells the first host of a run that the run is over here; on the first host, runs a command when all have told it.

Hosts that stay silent are given as unknown after `PATIENCE`. The command is run at most once: that it is run is noted before.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from sshmap.agent.execution.once import Once
from sshmap.agent.execution.shell import task_environment
from sshmap.agent.host.peers import open_peer
from sshmap.errors import SshmapError
from sshmap.model import Peer
from sshmap.protocol.messages import RunOver, Served
from sshmap.store.commit import Store
from sshmap.store.layout import ClusterFile, Root
from sshmap.store.notices import Counts, Notice, Notices

#: seconds that the first host waits for the others, seconds between two tries to tell it, and that the command may take
PATIENCE, PAUSE, LIMIT = 600.0, 1.0, 60.0


class Announcing:
    """Tells of the ends of one host's runs.

    Args:
        root: the host's root.
        store: its store.
    """

    def __init__(self, root: Root, store: Store) -> None:
        self._root, self._notices = root, Notices(store.ledger)
        self._thread: threading.Thread | None = None
        self._next = 0.0

    def look(self, cluster: ClusterFile) -> float:
        """Tell in a thread of its own, if there is something to tell; return the seconds after which to look again."""
        if not self._notices.due():
            return PATIENCE
        now, is_telling = time.monotonic(), self._thread is not None and self._thread.is_alive()
        if not is_telling and now >= self._next:
            self._next = now + PAUSE
            self._thread = threading.Thread(target=self._tell_all, args=(cluster,), name="announce", daemon=True)
            self._thread.start()
        return max(0.1, self._next - now)

    def _tell_all(self, cluster: ClusterFile) -> None:
        with contextlib.closing(Store(self._root)) as store:
            notices = Notices(store.ledger)
            for notice in notices.due():
                if notice.hosts[0] == cluster.host:
                    self._conclude(notices, notice, cluster)
                else:
                    with contextlib.suppress(SshmapError, OSError):
                        self._tell(notices, notice, cluster)

    def _tell(self, notices: Notices, notice: Notice, cluster: ClusterFile) -> None:
        """Tell the first host of a run that it is over here."""
        first = notice.hosts[0]
        peer = next((peer for peer in cluster.peers if peer.name == first), Peer(name=first, connect="ssh", root=""))
        counts = notices.counts(notice.seq)
        with contextlib.closing(open_peer(self._root, peer)) as session:
            session.ask(
                RunOver(run=notice.run, done=counts.done, failed=counts.failed, cancelled=counts.cancelled), Served
            )
        notices.claim(notice)

    def _conclude(self, notices: Notices, notice: Notice, cluster: ClusterFile) -> None:
        """Run the command if all hosts have told their ends, or have had their time."""
        ends = {**notices.heard(notice.run), cluster.host: notices.counts(notice.seq)}
        silent = [host for host in notice.hosts if host not in ends]
        if (not silent or time.time() - notice.ended > PATIENCE) and notices.claim(notice):
            self._run(notice, [*ends.values()], silent, cluster)

    def _run(self, notice: Notice, ends: list[Counts], silent: list[str], cluster: ClusterFile) -> None:
        failed = sum(end.failed for end in ends)
        state = notice.ending or ("failed" if failed else "unknown" if silent else "done")
        environment = task_environment(cluster.host, str(self._root.path)) | {
            "SSHMAP_RUN": str(notice.number), "SSHMAP_STATE": state, "SSHMAP_DONE": str(sum(end.done for end in ends)),
            "SSHMAP_FAILED": str(failed), "SSHMAP_CANCELLED": str(sum(end.cancelled for end in ends)), "SSHMAP_UNKNOWN": ",".join(silent),
        }  # fmt: skip
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            with contextlib.closing(Once(notice.command, null, Path.home(), environment)) as process:
                timer = threading.Timer(LIMIT, process.close)
                timer.start()
                _drain(process)
                process.wait()
                timer.cancel()
        finally:
            os.close(null)


def _drain(process: Once) -> None:
    """Read what a command says, which nobody wants, until it ends."""

    def read(pipe: int) -> None:
        with contextlib.suppress(OSError):
            while os.read(pipe, 65536):
                continue

    reader = threading.Thread(target=read, args=(process.stderr,), daemon=True)
    reader.start()
    read(process.stdout)
    reader.join(LIMIT)
