"""The part of a `Cluster` that is about keys: storing, fetching, copying, listing and deleting them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Unpack

import msgspec

from sshmap.client import fetching, removal, sources
from sshmap.client.conversations import Conversations
from sshmap.client.listing import Folder, ListingCache, Placed, list_buckets, list_keys
from sshmap.client.reading import write_contents
from sshmap.client.results import Counted, Removal, RemovalFailed, Transfer, silent
from sshmap.client.syncing import Copier, CopyOptions, SyncOptions, check_directory
from sshmap.client.upload import upload
from sshmap.client.verifying import Verification, verify_keys
from sshmap.errors import NothingMatched, UsageError
from sshmap.model import Bucket, KeyName, check_name, is_remote, parse_directory, parse_name, parse_prefix
from sshmap.protocol import messages as m

#: bytes up to which the content of an opened key is held in memory
_SPOOLED = 1 << 20
#: a key as text, ``sm://bucket/path``, or as a listing shows it
Key = str | Placed


class KeyCalls:
    """The calls about keys.

    Args:
        conversations: the way to the hosts.
    """

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._listings = ListingCache()

    def put(self, source: bytes | Path | BinaryIO, key: Key, *, replace: bool = False) -> Transfer:
        """Store content under a key; the same content again is harmless.

        Args:
            source: content, a file to copy, or a stream to read to its end.
            key: ``sm://bucket/path``.
            replace: swap a key that holds other content.

        Raises:
            KeyExists: the key holds other content.
        """
        name = check_name(parse_name(str(key)))
        if not isinstance(source, bytes | Path) and not hasattr(source, "read"):
            raise UsageError(
                f"put takes bytes, a Path or a stream to read from, not {type(source).__name__}",
                hint="give text as text.encode(), a file's name as Path(name)",
            )
        with contextlib.ExitStack() as opened:
            chosen = msgspec.structs.replace(self._source(source, name, opened), replace=replace)
            return upload(self._conversations, [chosen]).check()

    def _source(self, content: bytes | Path | BinaryIO, name: KeyName, opened: contextlib.ExitStack) -> sources.Source:
        """Make a source of some content; a short stream is read at once, so that it can be sent again."""
        if isinstance(content, Path):
            if source := sources.of_file(content, name):
                return source
            content = opened.enter_context(content.open("rb", buffering=0))
        if isinstance(content, bytes):
            return sources.Source(name=name, content=content, size=len(content))
        source = sources.of_stream(content, name)
        if not source.repeatable:
            # it can be sent once only, so find out first whether the host answers
            host = self._conversations.ring.place(name)
            self._conversations.ask(host, lambda session: session.ask(m.Ping(), m.Served), bulk=True)
        return source

    def put_tree(self, top: Path, prefix: str, **options: Unpack[CopyOptions]) -> Transfer:
        """Store all files below a directory under ``prefix`` plus their relative paths.

        Raises:
            UsageError: there is no such directory.
            TransferFailed: some could not be copied; its ``result`` says which, and the others were.
        """
        return self._copier(options).copy_in([check_directory(top, prefix)], self._below(prefix)).complete()

    def put_files(self, paths: Iterable[Path], prefix: str, **options: Unpack[CopyOptions]) -> Transfer:
        """Store files under ``prefix`` plus their base names, and what is below directories under their relative paths.

        Raises:
            TransferFailed: some could not be copied; its ``result`` says which, and the others were.
        """
        return self._copier(options).copy_in(paths, self._below(prefix)).complete()

    def sync(self, source: Path | str, target: Path | str, **options: Unpack[SyncOptions]) -> Transfer:
        """Make a directory of keys hold what a directory of this machine holds, or the other way round; only what differs is copied.

        Args:
            source: a directory, or ``sm://bucket/path``.
            target: the other of the two.
            options: see `SyncOptions`; without ``delete``, what only the target has stays.

        Raises:
            UsageError: both or neither are keys.
            NothingMatched: ``source`` holds no key.
            TransferFailed: some could not be copied; its ``result`` says which, and the others were.
        """
        if not str(source) or not str(target):
            raise UsageError("SRC or DST is empty", hint="name the directory that is meant, as '.' for this one")
        if is_remote(str(source)) == is_remote(str(target)):
            raise UsageError(
                f"sync {source} {target}: one of them is a directory of keys", hint="write sm://bucket/path"
            )
        copier = self._copier(options)
        if is_remote(str(target)):
            top = check_directory(Path(source), str(target))
            return copier.sync_in(top, self._below(str(target))).complete()
        return copier.sync_out(parse_directory(str(source)), Path(target)).complete()

    def _copier(self, options: SyncOptions | CopyOptions) -> Copier:
        return Copier(self._conversations, self._list_below, **options)

    def _list_below(self, prefix: str) -> Generator[Placed]:
        """Go through the keys that start with a prefix; who leaves off half way has to close it."""
        with contextlib.closing(list_keys(self._conversations, self._listings, prefix, recursive=True)) as rows:
            yield from (row for row in rows if isinstance(row, Placed))

    @staticmethod
    def _below(prefix: str) -> str:
        """Read the directory of keys that something is copied to."""
        if name := parse_directory(str(prefix)):
            return name
        raise UsageError(f"{prefix} names no bucket", hint="name one: sm://bucket/")

    def get(self, key: Key) -> bytes:
        """Return a key's content; one of more than 1 GiB is left to `get_file` and `cat`.

        Raises:
            NothingMatched: there is no such key.
            UsageError: it is larger.
            DigestMismatch: its content is damaged.
        """
        return fetching.fetch_bytes(self._conversations, check_name(parse_name(str(key))))

    def cat(self, key: Key, out: BinaryIO, *, several: bool = True) -> int:
        """Write the content of a key, or of all keys in a directory or glob in the order of names, to a stream; return the bytes.

        Args:
            key: ``sm://bucket/path``.
            out: where to write.
            several: whether a directory or glob may be meant.

        Raises:
            NothingMatched: there are none.
            DigestMismatch: a content is damaged; what was written of it must not be used.
        """
        if not several:
            return fetching.fetch_one(self._conversations, check_name(parse_name(str(key))), out)
        return write_contents(self._conversations, self._list_below, str(key), out)

    def get_file(self, key: Key, path: Path) -> int:
        """Copy a key to a file, which is replaced once all has been checked; return its size in bytes."""
        return fetching.fetch_file(self._conversations, check_name(parse_name(str(key))), path)

    def open(self, key: Key) -> IO[bytes]:
        """Return a key's content as a file to read; it has been checked, and lies in a temporary file if it is not small.

        Raises:
            NothingMatched: there is no such key.
            DigestMismatch: its content is damaged.
        """
        file = tempfile.SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115  # the caller closes it
        try:
            fetching.fetch_again(self._conversations, check_name(parse_name(str(key))), file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def exists(self, key: Key) -> bool:
        """Say whether there is a key of this name."""
        name = check_name(parse_name(str(key)))
        answer = self._conversations.ask(
            self._conversations.ring.place(name), lambda session: session.ask(m.Has(name=name), m.Served)
        )
        return answer.count > 0

    def get_tree(self, prefix: str, top: Path, **options: Unpack[CopyOptions]) -> Transfer:
        """Copy all keys below ``sm://…`` to files below a directory, under their paths below ``prefix``.

        Raises:
            NothingMatched: there are none.
            TransferFailed: some could not be copied; its ``result`` says which, and the others were.
        """
        transfer = self._copier(options).copy_out(parse_directory(str(prefix)), top)
        if not (transfer.fresh or transfer.failed or transfer.lost):
            raise NothingMatched(f"no key below {prefix}", hint="sshmap ls shows what there is")
        return transfer.complete()

    def ls(self, prefix: str = "sm://", *, recursive: bool = False) -> Iterator[Placed | Folder]:
        """Go through the keys that start with a prefix, sorted by name; a bare bucket means that bucket.

        One level below the prefix: keys and directories;
        with ``recursive`` all keys. Complete, or an error.

        Raises:
            HostLost: a host does not answer.
        """
        return list_keys(self._conversations, self._listings, parse_prefix(str(prefix)), recursive=recursive)

    def buckets(self) -> list[Bucket]:
        """Return all buckets, sorted by name.

        Raises:
            HostLost: a host does not answer.
        """
        return list_buckets(self._conversations)

    def rm(self, prefix: str, *, recursive: bool = False) -> Removal:
        """Delete a key, or with ``recursive`` all keys that start with a prefix; a bare bucket means that bucket.

        Args:
            prefix: key or prefix.
            recursive: the prefix may match many keys, as in S3, or none.

        Raises:
            NothingMatched: there is no such key; with ``recursive`` that is no error.
            RemovalFailed: hosts failed; its ``result`` says what the others deleted.
        """
        name = parse_prefix(prefix) if recursive else parse_name(prefix)
        if not name:
            raise UsageError("refusing to delete everything", hint="name a bucket: sshmap rm -r sm://bucket/")
        if not recursive:
            check_name(name)
        result = removal.remove_keys(self._conversations, name, exact=not recursive)
        if result.failures:
            raise RemovalFailed(result)
        if not result.keys and not recursive:
            raise NothingMatched(f"no key is named {prefix}", hint="sshmap ls shows what there is")
        return result

    def count(self, prefix: str = "sm://", names: Iterable[str] | None = None) -> Removal:
        """Count the keys that start with a prefix, on all hosts unless some are named, as `rm` would delete them."""
        return removal.added_up(*removal.count_keys(self._conversations, parse_prefix(str(prefix)), names))

    def measure(self, directory: str) -> tuple[int, int]:
        """Return number and bytes of the keys below a directory, on the hosts that answer."""
        counted = removal.added_up(*removal.count_keys(self._conversations, parse_directory(directory)))
        return counted.keys, counted.size

    def verify(
        self, prefix: str = "sm://", *, rate: int = 0, quarantine: bool = False, report: Counted = silent
    ) -> dict[str, Verification]:
        """Read all keys that start with a prefix against their digests, whatever their seals say; return what each host has found.

        Args:
            prefix: ``sm://…``; a bare bucket means that bucket.
            rate: most bytes a second that each host reads; 0 if that is not limited.
            quarantine: put aside what is damaged: its file is moved below the host's root, and it is no key any more.
            report: called with keys and bytes as they are read.

        Raises:
            HostsFailed: hosts failed; its ``results`` are those of all hosts, as far as they came.
        """
        name = parse_prefix(str(prefix))
        if rate < 0:
            raise UsageError(f"rate {rate}: not a number of bytes")
        return verify_keys(self._conversations, name, rate, quarantine=quarantine, report=report)

    def where(self, prefix: str) -> Iterator[Placed]:
        """Go through the keys that start with a prefix with the hosts they lie on.

        Raises:
            NothingMatched: there are none.
        """
        found = False
        for row in self.ls(prefix, recursive=True):
            if isinstance(row, Placed):
                found = True
                yield row
        if not found:
            name = parse_name(prefix)
            there = (
                f"; it would lie on {self._conversations.ring.place(name)}" if name and not name.endswith("/") else ""
            )
            raise NothingMatched(f"no such key: {prefix}{there}", hint="sshmap ls shows what there is")

    def host_of(self, key: Key) -> str:
        """Return the host a key belongs to."""
        return self._conversations.ring.place(check_name(parse_name(str(key))))
