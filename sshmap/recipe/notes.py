"""What a recipe remembers beside its keys, as small keys of JSON below ``HOME/.recipe/``: no step can be called so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from sshmap.client.cluster import Cluster
from sshmap.client.listing import Placed
from sshmap.errors import NothingMatched
from sshmap.recipe.flow import Place

#: bytes of a note
_MOST = 1 << 20
Note = TypeVar("Note", bound=msgspec.Struct)


class Notes(Generic[Note]):
    """Notes of one kind, by name.

    Args:
        cluster: the cluster.
        place: where the recipe's keys lie.
        kind: name of the kind.
        type: class of the notes.
    """

    def __init__(self, cluster: Cluster, place: Place, kind: str, type: type[Note]) -> None:  # noqa: A002  # what it is
        self._cluster, self._prefix = cluster, f"{place.home}.recipe/{kind}/"
        self._decode: Callable[[bytes], Note] = msgspec.json.Decoder(type).decode

    def names(self) -> set[str]:
        """Return the names of all notes."""
        return set(self._there())

    def _there(self) -> dict[str, Placed]:
        rows = self._cluster.ls(self._prefix, recursive=True)
        return {row.name.removeprefix(self._prefix): row for row in rows if isinstance(row, Placed)}

    def all(self) -> dict[str, Note]:
        """Return all notes by their names."""
        found = {name: self._read(row) for name, row in self._there().items()}
        return {name: note for name, note in found.items() if note is not None}

    def get(self, name: str) -> Note | None:
        """Return a note, if there is one."""
        row = self._there().get(name)
        return self._read(row) if row else None

    def _read(self, row: Placed) -> Note | None:
        """Read a note; one that another version has written, or that is none, counts as none."""
        if row.size > _MOST:
            return None
        try:
            return self._decode(self._cluster.get(row))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def write(self, name: str, note: Note) -> None:
        """Write a note, over one of the same name."""
        self._cluster.put(msgspec.json.encode(note), f"{self._prefix}{name}", replace=True)

    def drop(self, name: str) -> None:
        """Delete a note, if there is one."""
        with contextlib.suppress(NothingMatched):
            self._cluster.rm(f"{self._prefix}{name}")
