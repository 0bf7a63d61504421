"""What was found damaged and is still there, and how far the daemon's slow round is: statements on ``damages`` and ``rounds``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sshmap.store.integrity import Found
from sshmap.store.ledger import Ledger

#: a damaged key that was not mended, replaced or deleted since
_STILL = "FROM damages JOIN keys USING (name, inode, ctime)"


class Damages:
    """Statements on one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def settle(self, prefix: str, after: str, last: str, found: Sequence[Found]) -> None:
        """Note what is damaged of the keys that were read; what was noted of the others of them holds no longer.

        Args:
            prefix: what the names of these keys start with.
            after: the name after which they begin.
            last: the name with which they end.
            found: the damaged ones.
        """
        where, values = "name >= ? AND name > ? AND name <= ?", (prefix, after, last)
        known = self._ledger.db.execute(f"SELECT 1 FROM damages WHERE {where} LIMIT 1", values).fetchone()
        if not known and not found:
            return
        rows = [(one.row.name, one.row.inode, one.row.ctime) for one in found]
        with self._ledger.change() as db:
            db.execute(f"DELETE FROM damages WHERE {where}", values)
            db.executemany("INSERT OR REPLACE INTO damages (name, inode, ctime) VALUES (?, ?, ?)", rows)

    def count(self) -> int:
        """Count the keys that were found damaged and are still as they were then."""
        return int(self._ledger.db.execute(f"SELECT count(*) {_STILL}").fetchone()[0])

    def first(self) -> str:
        """Return the first name of these; empty if there are none."""
        row = self._ledger.db.execute(f"SELECT name {_STILL} ORDER BY name LIMIT 1").fetchone()
        return str(row[0]) if row else ""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A slow round over all keys."""

    #: seconds since 1970
    began: float
    #: the last key that was read
    after: str = ""
    #: what was read so far, and what there was to read when the round began
    done: int = 0
    total: int = 0
    ended: bool = False


class Rounds:
    """Statements on one ledger, which holds the newest round.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def newest(self) -> Round | None:
        """Return the round under way, or the last one that ended."""
        row = self._ledger.db.execute("SELECT began, after, done, total, ended FROM rounds").fetchone()
        return Round(began=row[0], after=row[1], done=row[2], total=row[3], ended=bool(row[4])) if row else None

    def save(self, state: Round) -> None:
        """Note how far the round is."""
        with self._ledger.change() as db:
            db.execute("DELETE FROM rounds")
            db.execute(
                "INSERT INTO rounds (began, after, done, total, ended) VALUES (?, ?, ?, ?, ?)",
                (state.began, state.after, state.done, state.total, state.ended),
            )
