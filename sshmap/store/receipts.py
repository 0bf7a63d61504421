"""What receipts, job ids and inputs are digests of: the canonical encoding, which may never change under people's data.

A value is encoded as JSON with its keys sorted and without the fields that are at their defaults, so
a field that comes later, with a default, changes no digest that lies on a disk. `ENCODING` is part of
what is digested. Golden vectors in the tests hold all of it.

Rejected: to digest what msgspec writes of a class. It leaves out defaults by identity, so that a value
that came over the wire has another digest than an equal one that was made here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sshmap.model import Digest, JobId, JobSpec, Maker
from sshmap.store.digest import digest_of

ENCODING = 1
_INPUTS = b"inputs %d\n" % ENCODING


def canonical(kind: str, value: object) -> bytes:
    """Encode a value of some kind for its digest."""
    return msgspec.json.encode([ENCODING, kind, _plain(value)], order="sorted")


def _plain(value: object) -> object:
    """Turn structs into dictionaries of the fields that are not at their defaults."""
    if isinstance(value, msgspec.Struct):
        fields = {field.name: (getattr(value, field.name), _default(field)) for field in msgspec.structs.fields(value)}
        return {name: _plain(held) for name, (held, default) in fields.items() if held != default}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _default(field: msgspec.structs.FieldInfo) -> object:
    """Return the default of a field; for a field without one, msgspec's `NODEFAULT`, which equals no value."""
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def digest_maker(maker: Maker) -> Digest:
    """Digest what the tasks of a job have in common."""
    return digest_of(canonical("maker", maker))


def digest_inputs(members: Iterable[tuple[str, bytes]]) -> Digest:
    """Digest the inputs of a task: their names, which hold no NUL, and the digests of their contents."""
    lines = (name.encode() + b"\0" + digest for name, digest in members)
    return digest_of(b"".join((_INPUTS, *lines)))


def job_id(spec: JobSpec) -> JobId:
    """Name a job by what it is to do, so that the same command is the same job; whether a run replaces outputs is no part of it."""
    work = {"indir": spec.indir, "outdir": spec.outdir, "maker": spec.maker}
    return JobId(digest_of(canonical("job", work)).hex()[:12])


def names_digest(bases: Iterable[str]) -> bytes:
    """Digest a set of base names so that the digests of its parts can be combined by xor."""
    total = 0
    for base in bases:
        total ^= int.from_bytes(digest_of(base.encode()), "big")
    return total.to_bytes(16, "big")


def combine(one: bytes, other: bytes) -> bytes:
    """Combine the digests of two disjoint sets of names."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(16, "big")
