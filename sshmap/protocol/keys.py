"""Messages about keys: listing, storing, fetching and deleting them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from sshmap.errors import SshmapError
from sshmap.model import Bucket, Count, Damage, Entry, Receipt, Size
from sshmap.protocol.base import Message, Problem

#: most rows that are accepted in one message, several times what is sent: decoded, a row is many times larger than on the wire
PAGE = msgspec.Meta(max_length=10_000)


class Ls(Message, frozen=True, kw_only=True):
    """List keys by prefix."""

    prefix: str
    recursive: bool = False
    #: generation of the listing that the client remembers; empty if it remembers none
    known: str = ""
    #: skip all up to and with this row, when going on after a lost connection
    after: str = ""


class Listing(Message, frozen=True, kw_only=True):
    """Some rows of a listing, sorted by name."""

    entries: Annotated[tuple[Entry, ...], PAGE] = ()
    prefixes: Annotated[tuple[str, ...], PAGE] = ()


class Listed(Message, frozen=True, kw_only=True):
    """End of a listing."""

    generation: str
    #: the listing that the client remembers is still right, so no rows were sent
    unchanged: bool = False


class ListBuckets(Message, frozen=True, kw_only=True):
    """Asks which buckets there are."""


class Buckets(Message, frozen=True, kw_only=True):
    """Some buckets, sorted by name."""

    rows: Annotated[tuple[Bucket, ...], PAGE]


class Put(Message, frozen=True, kw_only=True):
    """Announces the content of a key."""

    name: str
    receipt: Receipt | None = None
    #: names of the inputs that a job made it from
    members: tuple[str, ...] = ()
    #: swap a key that has another receipt
    replace: bool = False
    #: for a fan-out file that a client relays: the host that it comes from
    source: str = ""


class End(Message, frozen=True, kw_only=True):
    """Ends a stream of data."""

    size: int
    digest: bytes


class Handed(Message, frozen=True, kw_only=True):
    """Stands for a stream of data and its End: the open file came with this message, on one machine."""

    size: int
    digest: bytes


class PutResult(msgspec.Struct, frozen=True, array_like=True):
    """What became of one Put."""

    name: str
    fresh: bool = True
    problem: Problem | None = None
    #: the key was there, but damaged or without its file; what was sent has taken its place
    repaired: bool = False


def refused(error: SshmapError, name: str) -> PutResult:
    """Return the result of a Put that failed."""
    return PutResult(name, fresh=False, problem=Problem.of(error, name))


class Stored(Message, frozen=True, kw_only=True):
    """What became of some Puts, in their order."""

    results: Annotated[tuple[PutResult, ...], PAGE]


class Sync(Message, frozen=True, kw_only=True):
    """Asks for the results of all Puts so far."""


class Synced(Message, frozen=True, kw_only=True):
    """All results have been sent."""


class Get(Message, frozen=True, kw_only=True):
    """Asks for content."""

    prefix: str
    #: the prefix is one whole key name
    exact: bool = False
    #: skip all up to and with this name, when going on after a lost connection
    after: str = ""
    #: leave out keys of fewer bytes
    least: Size = 0
    #: name keys of so many bytes or more (Passed) without sending their content; 0 sends all
    limit: Size = 0
    #: send only these keys, sorted; all with the prefix if there are none
    names: Annotated[tuple[str, ...], PAGE] = ()


class Item(Message, frozen=True, kw_only=True):
    """Announces the content of one key."""

    name: str
    #: bytes
    size: Size


class Passed(Message, frozen=True, kw_only=True):
    """Names a key whose content is not sent, because it is larger than what was asked for."""

    name: str


class Unsent(Message, frozen=True, kw_only=True):
    """Stands in place of End: the content that was announced cannot be sent, and the part that was sent does not count."""

    problem: Problem


class Remove(Message, frozen=True, kw_only=True):
    """Deletes keys, or only counts them."""

    prefix: str
    exact: bool = False
    counting: bool = False
    #: only these keys; all with the prefix if there are none
    names: Annotated[tuple[str, ...], PAGE] = ()


class Removed(Message, frozen=True, kw_only=True):
    """How many keys of how many bytes, and how many of them no job made."""

    count: Count
    size: Size
    copied: Count = 0
    copied_size: Size = 0


class Has(Message, frozen=True, kw_only=True):
    """Asks whether a key is there."""

    name: str


class Verify(Message, frozen=True, kw_only=True):
    """Has keys read against their digests, whatever their seals say."""

    prefix: str
    #: skip all up to and with this name, when going on after a lost connection
    after: str = ""
    #: most bytes a second that are read; 0 if that is not limited
    rate: Size = 0
    #: put aside what is damaged
    quarantine: bool = False


class Damages(Message, frozen=True, kw_only=True):
    """Damaged keys, sorted by name; nothing was done about them yet."""

    rows: Annotated[tuple[Damage, ...], PAGE]


class PutAside(Message, frozen=True, kw_only=True):
    """The client's answer to Damages where it has asked for a quarantine: it knows of them, so they may be put aside."""


class Aside(msgspec.Struct, frozen=True, array_like=True):
    """A damaged key that is none any more."""

    name: str
    #: where its file lies now, below the root; empty if it was missing
    path: str = ""


class Verified(Message, frozen=True, kw_only=True):
    """What was read since the last such message."""

    #: last key that was read, before which nothing is left to read
    name: str
    keys: Count = 0
    #: bytes
    size: Size = 0
    #: bytes that were read of the key after that one
    reading: Size = 0
    #: what was put aside, of the damaged keys that were sent since the last such message
    aside: Annotated[tuple[Aside, ...], PAGE] = ()
