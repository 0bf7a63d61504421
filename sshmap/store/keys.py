"""The keys of one host: statements on the ledger's ``keys`` and ``makers``.

Listings are prefix scans of the primary key, so they cost what they return.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from sshmap.model import MAX_NAME, Bucket, Entry, Maker, Receipt
from sshmap.placement import numeric_prefix
from sshmap.store.ledger import Ledger
from sshmap.store.receipts import digest_maker
from sshmap.store.seal import Seal

_BATCH = 500
_LAST = chr(0x10FFFF)
#: characters of a key's input names from which on compressing them pays
_WORTH_COMPRESSING = 128


class Total(NamedTuple):
    """A number of keys, and their bytes; and of those that no job made."""

    keys: int
    size: int
    copied: int
    copied_size: int


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A key's row."""

    name: str
    size: int
    digest: bytes
    #: when its file was stamped, in seconds since the epoch
    mtime: int
    receipt: Receipt | None
    inode: int = 0
    #: in ns since the epoch
    ctime: int = 0

    @property
    def seal(self) -> Seal:
        """The seal that its file had when it became the key."""
        return Seal(self.size, self.mtime, self.inode, self.ctime)


def after_prefix(prefix: str) -> str:
    """Return the first text after all that start with a prefix, in the order of code points."""
    while prefix and prefix[-1] == _LAST:
        prefix = prefix[:-1]
    if not prefix:
        return _LAST * (MAX_NAME + 1)
    code = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if code == 0xD800 else code)


class Keys:
    """Statements on the keys of one ledger.

    Args:
        ledger: an open ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._db = ledger.db

    def get(self, name: str) -> Row | None:
        """Return a key's row, or None."""
        return self.rows([name]).get(name)

    def rows(self, names: Sequence[str]) -> dict[str, Row]:
        """Return the rows of those of the names that are keys."""
        found: dict[str, Row] = {}
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            query = f"SELECT name, size, digest, mtime, maker, inputs, inode, ctime FROM keys WHERE name IN ({_marks(some)})"
            for name, size, digest, mtime, maker, inputs, inode, ctime in self._db.execute(query, some):
                found[name] = Row(name, size, digest, mtime, receipt_of(maker, inputs), inode, ctime)
        return found

    def scan(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """Go through all keys that start with a prefix, in order.

        In batches: while a cursor is open, its connection sees the ledger as it was when that began.
        """
        query = (
            "SELECT name, size, mtime, digest FROM keys WHERE name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?"
        )
        while rows := self._db.execute(query, (prefix, after_prefix(prefix), after, _BATCH)).fetchall():
            for row in rows:
                yield Entry(*row)
            after = rows[-1][0]

    def names(self, prefix: str) -> Iterator[str]:
        """Go through the names of all keys that start with a prefix, in order and in batches, as `scan` does."""
        after, query = "", "SELECT name FROM keys WHERE name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?"
        while rows := self._db.execute(query, (prefix, after_prefix(prefix), after, 10 * _BATCH)).fetchall():
            yield from (name for (name,) in rows)
            after = rows[-1][0]

    def level(self, prefix: str, after: str = "") -> Iterator[Entry | str]:
        """Go through one level below a prefix, after the row ``after``: keys as entries, directories as text ending in ``/``.

        A directory is skipped as a whole by seeking behind it, so its keys cost nothing.
        """
        start, stop = prefix, after_prefix(prefix)
        if after:
            start = after_prefix(after) if after.endswith("/") else after + "\0"
        query = "SELECT name, size, mtime, digest FROM keys WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"
        while rows := self._db.execute(query, (start, stop, _BATCH)).fetchall():
            for name, size, mtime, digest in rows:
                slash = name.find("/", len(prefix))
                if slash >= 0:
                    yield name[: slash + 1]
                    start = after_prefix(name[: slash + 1])
                    break
                yield Entry(name, size, mtime, digest)
                start = name + "\0"

    def buckets(self) -> Iterator[Bucket]:
        """Go through the buckets, in order; all rows of a bucket are read for its sums."""
        query = "SELECT count(*), sum(size), max(mtime) FROM keys WHERE name >= ? AND name < ?"
        for directory in self.level(""):
            if isinstance(directory, str):
                row = self._db.execute(query, (directory, after_prefix(directory))).fetchone()
                # it may be gone since it was listed
                if row[0]:
                    yield Bucket(directory[:-1], *row)

    def grouped(self, prefix: str) -> Iterator[tuple[str, str, bytes]]:
        """Go through keys below a prefix ordered by merge group: group, name, digest.

        The order is SQLite's, which spills to disk: memory stays bounded.
        """
        self._db.create_function("merge_group", 1, merge_group, deterministic=True)
        yield from self._db.execute(
            "SELECT merge_group(name) AS g, name, digest FROM keys WHERE name >= ? AND name < ? ORDER BY g, name",
            (prefix, after_prefix(prefix)),
        )

    def receipts(self, names: list[str]) -> dict[str, Receipt | None]:
        """Return which of the names exist, and their receipts."""
        found: dict[str, Receipt | None] = {}
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            query = f"SELECT name, maker, inputs FROM keys WHERE name IN ({_marks(some)})"
            for name, maker, inputs in self._db.execute(query, some):
                found[name] = receipt_of(maker, inputs)
        return found

    def below(self, prefix: str) -> Iterator[tuple[str, Receipt | None]]:
        """Go through the names and receipts below a prefix."""
        query = "SELECT name, maker, inputs FROM keys WHERE name >= ? AND name < ? ORDER BY name"
        for name, maker, inputs in self._db.execute(query, (prefix, after_prefix(prefix))):
            yield name, receipt_of(maker, inputs)

    def lineages(self) -> Iterator[tuple[str, ...]]:
        """Go through the names of inputs that keys were made from, equal ones once."""
        for (members,) in self._db.execute("SELECT DISTINCT members FROM keys WHERE members IS NOT NULL"):
            yield unpacked(members)

    def count_made(self, prefix: str, maker: bytes) -> int:
        """Count the keys with a prefix that a maker made."""
        query = "SELECT count(*) FROM keys WHERE name >= ? AND name < ? AND maker = ?"
        return int(self._db.execute(query, (prefix, after_prefix(prefix), maker)).fetchone()[0])

    def made_by(self, prefix: str, maker: bytes) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Go through the keys with a prefix that a maker made, and the names of their inputs; in batches, as `scan` does."""
        after = ""
        query = "SELECT name, members FROM keys WHERE name >= ? AND name < ? AND name > ? AND maker = ? ORDER BY name LIMIT ?"
        while rows := self._db.execute(query, (prefix, after_prefix(prefix), after, maker, _BATCH)).fetchall():
            yield from ((name, unpacked(members)) for name, members in rows)
            after = rows[-1][0]

    def any_below(self, name: str) -> bool:
        """Say whether keys lie in the directory of this name."""
        prefix = f"{name}/"
        query = "SELECT 1 FROM keys WHERE name >= ? AND name < ? LIMIT 1"
        return self._db.execute(query, (prefix, after_prefix(prefix))).fetchone() is not None

    def total(self, prefix: str = "", *, exact: bool = False) -> Total:
        """Count the keys with a prefix, or one key."""
        where, values = _where(prefix, exact=exact)
        row = self._db.execute(
            "SELECT count(*), sum(size), count(*) FILTER (WHERE maker IS NULL), sum(size) FILTER (WHERE maker IS NULL) "
            f"FROM keys WHERE {where}",
            values,
        ).fetchone()
        return Total(*(value or 0 for value in row))

    def total_of(self, names: Sequence[str]) -> Total:
        """Count those of the names that are keys."""
        totals = [self.total(name, exact=True) for name in names] or [Total(0, 0, 0, 0)]
        return Total(*(sum(column) for column in zip(*totals, strict=True)))

    def maker(self, identity: bytes | None) -> Maker | None:
        """Return what a receipt's maker digest stands for."""
        row = self._db.execute("SELECT spec FROM makers WHERE id = ?", (identity,)).fetchone()
        return msgspec.json.decode(row[0], type=Maker) if row else None

    def forget_makers(self) -> int:
        """Delete the makers that no key and no job refers to; within a transaction. Return how many there were."""
        kept = "SELECT maker FROM jobs UNION SELECT maker FROM keys WHERE maker IS NOT NULL"
        return self._db.execute(f"DELETE FROM makers WHERE id NOT IN ({kept})").rowcount

    def remember(self, maker: Maker) -> bytes:
        """Store a maker, so that `maker` finds it by its digest, and return the digest; within a transaction."""
        identity = digest_maker(maker)
        self._db.execute("INSERT OR IGNORE INTO makers VALUES (?, ?)", (identity, msgspec.json.encode(maker)))
        return identity

    def insert(self, row: Row, members: tuple[str, ...] = ()) -> None:
        """Add or swap a row; within the transaction that puts its file in place.

        Args:
            row: the row.
            members: names of the inputs it was made from; none if no job made it.
        """
        maker, inputs = (row.receipt.maker, row.receipt.inputs) if row.receipt else (None, None)
        self._db.execute(
            "INSERT OR REPLACE INTO keys (name, size, digest, mtime, maker, inputs, inode, ctime, members) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.name, row.size, row.digest, row.mtime, maker, inputs, row.inode, row.ctime, packed(members)),
        )

    def members_of(self, name: str) -> tuple[str, ...]:
        """Return the lineage of a key, the names of the inputs it was made from; none if it is not there or no job made it."""
        row = self._db.execute("SELECT members FROM keys WHERE name = ?", (name,)).fetchone()
        return unpacked(row[0] if row else None)

    def discard(self, prefix: str, *, exact: bool = False) -> None:
        """Delete rows and note their files as garbage; within a transaction."""
        where, values = _where(prefix, exact=exact)
        self._db.execute(f"INSERT OR IGNORE INTO garbage SELECT name FROM keys WHERE {where}", values)
        self._db.execute(f"DELETE FROM keys WHERE {where}", values)


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _where(prefix: str, *, exact: bool) -> tuple[str, tuple[str, ...]]:
    return ("name = ?", (prefix,)) if exact else ("name >= ? AND name < ?", (prefix, after_prefix(prefix)))


def packed(members: tuple[str, ...]) -> str | bytes | None:
    """Encode names of inputs, one a line, compressed where that is smaller; a name holds no line break."""
    if not members:
        return None
    text = "\n".join(members)
    if len(text) < _WORTH_COMPRESSING:
        return text
    compressed = zlib.compress(text.encode())
    return compressed if len(compressed) < len(text) else text


def unpacked(names: str | bytes | None) -> tuple[str, ...]:
    """Decode names of inputs that `packed` has encoded."""
    text = zlib.decompress(names).decode() if isinstance(names, bytes) else names
    return tuple(text.split("\n")) if text else ()


def receipt_of(maker: bytes | None, inputs: bytes | None) -> Receipt | None:
    """Put a receipt together from its two columns."""
    return Receipt(maker, inputs) if maker is not None and inputs is not None else None


def merge_group(name: str) -> str:
    """Return the group a key is merged in: its numeric prefix, else its base name.

    A group by prefix ends in a line break, so that it differs from that of a base name of the same digits.
    """
    base = name.rsplit("/", 1)[-1]
    digits = numeric_prefix(base)
    return f"{digits}\n" if digits else base
