"""Who has to be told that a run is over: statements on ``runs`` and ``overs``.

The first host of a run is told by each of its hosts that the run is over there, and then runs a command, once.
"""

from __future__ import annotations

import msgspec

from sshmap.store.ledger import Ledger


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of a run on one host, or on several."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is over on this host, of which somebody has to be told."""

    #: its number in this ledger
    seq: int
    run: str
    #: what people call it
    number: int
    #: the command that tells people
    command: str
    #: its hosts; the first one runs the command
    hosts: tuple[str, ...]
    #: when it was over here, in seconds since 1970
    ended: float
    #: why it was ended, if it was
    ending: str


class Notices:
    """Statements on the notices of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._db = ledger, ledger.db

    def expect(self, seq: int, command: str, hosts: tuple[str, ...]) -> None:
        """Note that people are to be told when a run is over, unless that is noted already."""
        with self._ledger.change() as db:
            db.execute(
                "UPDATE runs SET notify = ?, hosts = ? WHERE seq = ? AND notify = ''", (command, "\n".join(hosts), seq)
            )

    def due(self) -> list[Notice]:
        """Return the runs that are over here and of which nobody was told."""
        rows = self._db.execute(
            "SELECT seq, id, number, notify, hosts, ended, ending FROM runs INDEXED BY runs_notify "
            "WHERE notify > '' AND told = 0 AND ended IS NOT NULL"
        )
        return [
            Notice(
                seq=seq,
                run=run,
                number=number,
                command=command,
                hosts=tuple(hosts.split("\n")),
                ended=ended,
                ending=ending,
            )
            for seq, run, number, command, hosts, ended, ending in rows
        ]

    def claim(self, notice: Notice) -> bool:
        """Note that a notice is given now; say whether it was not before, so that it is given once."""
        with self._ledger.change() as db:
            return db.execute("UPDATE runs SET told = 1 WHERE seq = ? AND told = 0", (notice.seq,)).rowcount > 0

    def counts(self, seq: int) -> Counts:
        """Return the tasks of a run on this host."""
        rows = dict(self._db.execute("SELECT state, sum(tasks) FROM tallies WHERE run = ? GROUP BY state", (seq,)))
        return Counts(done=rows.get("done", 0), failed=rows.get("failed", 0), cancelled=rows.get("cancelled", 0))

    def hear(self, run: str, host: str, counts: Counts) -> bool:
        """Take what a host of a run says of its end there; say whether the host takes part in that run."""
        with self._ledger.change() as db:
            row = db.execute("SELECT hosts FROM runs WHERE id = ?", (run,)).fetchone()
            if row is None or not host or host not in row[0].split("\n"):
                return False
            db.execute(
                "INSERT OR REPLACE INTO overs VALUES (?, ?, ?, ?, ?)",
                (run, host, counts.done, counts.failed, counts.cancelled),
            )
        return True

    def heard(self, run: str) -> dict[str, Counts]:
        """Return what the hosts of a run have said."""
        rows = self._db.execute("SELECT host, done, failed, cancelled FROM overs WHERE run = ?", (run,))
        return {host: Counts(done=done, failed=failed, cancelled=cancelled) for host, done, failed, cancelled in rows}
