"""Fan-out files that have to be sent to other hosts: statements on the ledger's ``outbox``, ``stuck`` and ``fanouts``.

What becomes of the files themselves, and of the tasks that made them, is in `sshmap.agent.shuffle`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import msgspec

from sshmap.limits import Limits
from sshmap.model import Receipt
from sshmap.store.keys import after_prefix
from sshmap.store.ledger import Ledger


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """One file in the outbox."""

    id: int
    task: int
    name: str
    size: int
    digest: bytes
    receipt: Receipt
    replaces: bool
    #: names of the inputs it was made from
    members: tuple[str, ...] = ()
    #: number of its run in this ledger, and most bytes a second that its files may leave this host with; 0 for any
    run: int = 0
    rate: int = 0


class Outbox:
    """Statements on the outbox of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db

    def post(
        self, task: int, peer: str, name: str, size: int, digest: bytes, receipt: Receipt, *, replaces: bool
    ) -> int:
        """Put a file into the outbox and return its number; within a transaction."""
        cursor = self._db.execute(
            "INSERT INTO outbox (task, peer, name, size, digest, maker, inputs, replaces) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (task, peer, name, size, digest, receipt.maker, receipt.inputs, replaces),
        )
        return int(cursor.lastrowid or 0)

    def parcels(self, peer: str, limit: int) -> list[Parcel]:
        """Return what waits for a peer, oldest first."""
        rows = self._db.execute(
            "SELECT outbox.id, task, name, outbox.size, digest, maker, outbox.inputs, outbox.replaces, members, run, limits "
            "FROM outbox JOIN tasks ON tasks.id = task JOIN runs ON seq = run WHERE peer = ? ORDER BY outbox.id LIMIT ?",
            (peer, limit),
        )
        return [
            Parcel(
                id=row[0], task=row[1], name=row[2], size=row[3], digest=row[4], receipt=Receipt(row[5], row[6]),
                replaces=bool(row[7]), members=tuple(row[8].split("\n")),
                run=row[9], rate=_rate(row[10]),
            )
            for row in rows
        ]  # fmt: skip

    def posted(self) -> set[int]:
        """Numbers of all files in the outbox."""
        return {number for (number,) in self._db.execute("SELECT id FROM outbox")}

    def peers_waiting(self) -> list[str]:
        """Peers with files in the outbox; costs with their number, not with that of the files."""
        peers: list[str] = []
        query = "SELECT min(peer) FROM outbox WHERE peer > ?"
        while peer := self._db.execute(query, (peers[-1] if peers else "",)).fetchone()[0]:
            peers.append(peer)
        return peers

    def size(self) -> int:
        """Bytes in the outbox."""
        return int(self._db.execute("SELECT value FROM meta WHERE name = 'outbox'").fetchone()[0])

    def held(self, parcels: Iterable[Parcel]) -> list[Parcel]:
        """Return those that are still in the outbox: a task may have been queued again, or a client has relayed its files."""
        some = list(parcels)
        numbers = ",".join(str(parcel.id) for parcel in some)
        there = {number for (number,) in self._db.execute(f"SELECT id FROM outbox WHERE id IN ({numbers})")}
        return [parcel for parcel in some if parcel.id in there]

    def take_out(self, parcels: Iterable[Parcel]) -> None:
        """Take files out that have arrived; within a transaction."""
        self._db.executemany("DELETE FROM outbox WHERE id = ?", [(parcel.id,) for parcel in parcels])

    def note_stuck(self, peer: str, kind: str, why: str) -> None:
        """Note that a peer cannot be reached, with the class and the message of the error."""
        with self._ledger.change() as db:
            db.execute("INSERT OR REPLACE INTO stuck VALUES (?, ?, ?)", (peer, kind, why))

    def note_reached(self, peer: str) -> None:
        """Note that a peer can be reached."""
        if self._db.execute("SELECT 1 FROM stuck WHERE peer = ?", (peer,)).fetchone():
            with self._ledger.change() as db:
                db.execute("DELETE FROM stuck WHERE peer = ?", (peer,))

    def is_stuck(self, peer: str) -> bool:
        """Say whether a peer could not be reached."""
        return self._db.execute("SELECT 1 FROM stuck WHERE peer = ?", (peer,)).fetchone() is not None

    def try_anew(self) -> None:
        """Forget which peers could not be reached, so that each of them is tried again at once."""
        if self._db.execute("SELECT 1 FROM stuck").fetchone():
            with self._ledger.change() as db:
                db.execute("DELETE FROM stuck")

    def stuck(self, run: int) -> dict[str, int]:
        """Peers that cannot be reached, and how many files of a run wait for each."""
        if self._db.execute("SELECT 1 FROM stuck").fetchone() is None:
            return {}
        query = "SELECT peer, count(*) FROM stuck JOIN outbox USING (peer) JOIN tasks ON tasks.id = task WHERE run = ? GROUP BY peer"
        return dict(self._db.execute(query, (run,)))

    def waiting(self, run: int) -> int:
        """Number of files of a run in the outbox."""
        query = "SELECT count(*) FROM outbox JOIN tasks ON tasks.id = task WHERE run = ?"
        return int(self._db.execute(query, (run,)).fetchone()[0])

    def barred(self) -> list[str]:
        """Peers whose host key was refused; no client relays files to them."""
        return [peer for (peer,) in self._db.execute("SELECT peer FROM stuck WHERE kind = 'HostKeyRefused'")]

    def why_stuck(self, peer: str) -> str:
        """Why a peer cannot be reached."""
        row = self._db.execute("SELECT why FROM stuck WHERE peer = ?", (peer,)).fetchone()
        return str(row[0]) if row else ""

    def record_fanout(self, output: str, member: str, receipt: Receipt, count: int, names: bytes) -> None:
        """Record what a fan-out task has put around the cluster; within a transaction.

        Args:
            output: its output directory.
            member: the name of its input.
            receipt: the receipt of its outputs.
            count: number of its outputs.
            names: digest of their base names.
        """
        self._db.execute(
            "INSERT OR REPLACE INTO fanouts VALUES (?, ?, ?, ?, ?, ?)",
            (output, receipt.maker, receipt.inputs, count, names, member),
        )

    def fanouts_by(self, outdir: str, maker: bytes) -> Iterator[tuple[str, Receipt, str]]:
        """Go through the records of a maker's tasks below a directory: output directory, receipt, name of the input."""
        query = (
            "SELECT output, inputs, member FROM fanouts "
            "WHERE output >= ? AND output < ? AND output > ? AND maker = ? AND member <> '' ORDER BY output LIMIT 500"
        )
        after = ""
        while rows := self._db.execute(query, (outdir, after_prefix(outdir), after, maker)).fetchall():
            yield from ((output, Receipt(maker, inputs), member) for output, inputs, member in rows)
            after = rows[-1][0]

    def forget_fanouts(self, outputs: list[str]) -> None:
        """Delete the records of some tasks; within a transaction."""
        self._db.executemany("DELETE FROM fanouts WHERE output = ?", [(output,) for output in outputs])

    def any_fanout_below(self, outdir: str) -> bool:
        """Say whether fan-out tasks with outputs below a directory have ended here, be it that they made nothing."""
        query = "SELECT 1 FROM fanouts WHERE output >= ? AND output < ? LIMIT 1"
        return self._db.execute(query, (outdir, after_prefix(outdir))).fetchone() is not None

    def fanouts(self, outputs: list[str]) -> dict[str, tuple[Receipt, int, bytes]]:
        """Return the records of fan-out tasks by their output directories, of which at most some hundred are given."""
        marks = ",".join("?" * len(outputs))
        rows = self._db.execute(
            f"SELECT output, maker, inputs, count, names FROM fanouts WHERE output IN ({marks})", outputs
        )
        return {output: (Receipt(maker, inputs), count, names) for output, maker, inputs, count, names in rows}


@functools.lru_cache(maxsize=16)
def _rate(limits: str) -> int:
    """Return the rate out of a run's limits, which are the same for all its files."""
    return msgspec.json.decode(limits, type=Limits).rate
