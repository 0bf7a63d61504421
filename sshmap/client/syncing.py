"""Copying trees both ways: all of it, or only what differs from what the other side holds.

What is there is compared by size and digest, so a file that was only touched does not travel. The listing of what is
there is taken once, before anything is sent; a key that another client stores meanwhile is refused or replaced as in
any other copy.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict, Unpack

import msgspec

from sshmap.client import removal
from sshmap.client.choosing import Choice, Numbers, without_numbers
from sshmap.client.conversations import Conversations
from sshmap.client.destination import Directory
from sshmap.client.download import download
from sshmap.client.listing import Placed
from sshmap.client.results import Counted, Removal, Transfer, silent
from sshmap.client.sources import Source, of_files, of_tree
from sshmap.client.upload import upload
from sshmap.errors import NotCopied, NothingMatched, SshmapError, UsageError
from sshmap.model import show, typed
from sshmap.store.digest import digest_fd


class CopyOptions(TypedDict, total=False):
    """Options of copying a tree."""

    #: globs of paths that take part, all if there are none; and of those that do not
    include: Iterable[str]
    exclude: Iterable[str]
    #: swap keys that hold other content
    replace: bool
    #: number the keys, so that they are dealt out to the hosts in turn; leave such numbers away when copying out
    number: bool
    #: called with the number and bytes of keys that have been copied since
    report: Counted


class SyncOptions(CopyOptions, total=False):
    """Options of making two trees alike."""

    #: delete what the source does not have
    delete: bool
    #: called before anything is deleted, with what would be; it may raise
    confirm: Callable[[Removal], None]


#: lists all keys below a directory
Lister = Callable[[str], Iterable[Placed]]


class Copier:
    """Copies between directories of this machine and directories of keys.

    Args:
        conversations: the way to the hosts.
        list_below: lists all keys below a directory.
        options: see `SyncOptions`.
    """

    def __init__(self, conversations: Conversations, list_below: Lister, **options: Unpack[SyncOptions]) -> None:
        self._conversations, self._list_below = conversations, list_below
        self._choice = Choice(include=tuple(options.get("include", ())), exclude=tuple(options.get("exclude", ())))
        self._replace, self._number = options.get("replace", False), options.get("number", False)
        self._report = options.get("report", silent)
        self._delete, self._confirm = options.get("delete", False), options.get("confirm", _go_on)
        #: sources that need not be sent, as their keys hold the same content
        self._equal = 0

    def copy_in(self, tops: Iterable[Path], prefix: str) -> Transfer:
        """Store files, and all files below directories, below a directory of keys."""
        failures: dict[str, SshmapError] = {}
        sources = self._sources(tops, prefix, failures)
        if self._number:
            sources = iter(Numbers(placed.path for placed in self._list_below(prefix)).number(sources))
        return _joined(upload(self._conversations, sources, self._report), failures)

    def sync_in(self, top: Path, prefix: str) -> Transfer:
        """Make a directory of keys hold what a directory holds; only what differs is sent."""
        failures: dict[str, SshmapError] = {}
        there = {placed.path: placed for placed in self._list_below(prefix)}
        sources = list(self._sources([top], prefix, failures))
        if self._number:
            sources = Numbers(there).number(sources)
        transfer = _joined(upload(self._conversations, self._differing(sources, there), self._report), failures)
        transfer.kept += self._equal
        # what could not be read here may be what is stored there
        if self._delete and not transfer.failed and not transfer.lost:
            gone = there.keys() - {source.name for source in sources}
            paths = self._paths(sorted(gone), prefix)
            self._remove([there[name] for name in paths], transfer)
        return transfer

    def copy_out(self, prefix: str, top: Path) -> Transfer:
        """Copy all keys below a directory of keys to files below a directory."""
        if not self._choice and not self._number:
            return download(self._conversations, prefix, top, self._report)
        paths = self._paths([placed.path for placed in self._list_below(prefix)], prefix)
        return download(self._conversations, prefix, top, self._report, paths)

    def sync_out(self, prefix: str, top: Path) -> Transfer:
        """Make a directory hold what a directory of keys holds; only what differs is fetched."""
        there = {placed.path: placed for placed in self._list_below(prefix)}
        if not there:
            # before anything is deleted: it may be a slip of the pen
            raise NothingMatched(f"no key below {show(prefix)}", hint="sshmap ls shows what there is")
        paths = self._paths(there, prefix)
        differing = {name: path for name, path in paths.items() if not _is_equal(top / path, there[name])}
        transfer = download(self._conversations, prefix, top, self._report, differing)
        transfer.kept += len(paths) - len(differing)
        if self._delete and not transfer.failed and not transfer.lost:
            self._unlink(top, set(paths.values()), transfer)
        return transfer

    def _sources(self, tops: Iterable[Path], prefix: str, failures: dict[str, SshmapError]) -> Iterator[Source]:
        for top in tops:
            for source in self._found(top, prefix, failures):
                yield msgspec.structs.replace(source, replace=self._replace)

    def _found(self, top: Path, prefix: str, failures: dict[str, SshmapError]) -> Iterator[Source]:
        if top.is_dir():
            return of_tree(top, prefix, failures.__setitem__, self._choice.takes)
        return of_files([top], prefix, failures.__setitem__)

    def _differing(self, sources: Iterable[Source], there: Mapping[str, Placed]) -> Iterator[Source]:
        """Go through the sources whose content is not that of the key that is there."""
        for source in sources:
            placed = there.get(source.name)
            if placed and isinstance(source.content, Path) and _is_equal(source.content, placed):
                self._equal += 1
            else:
                yield msgspec.structs.replace(source, replace=True)

    def _paths(self, names: Iterable[str], prefix: str) -> dict[str, str]:
        """Return the paths of the files of those keys that take part."""
        paths = {name: name[len(prefix) :] for name in names}
        if self._number:
            plain = without_numbers(paths.values())
            paths = {name: plain[path] for name, path in paths.items()}
        return {name: path for name, path in paths.items() if self._choice.takes(path)}

    def _remove(self, surplus: list[Placed], transfer: Transfer) -> None:
        """Delete keys that have no file."""
        if not surplus:
            return
        self._confirm(removal.count_each(self._conversations, surplus))
        removed = removal.remove_each(self._conversations, surplus)
        transfer.deleted, transfer.lost = removed.keys, removed.failures

    def _unlink(self, top: Path, kept: set[str], transfer: Transfer) -> None:
        """Delete files that have no key; links are not followed, and directories stay."""
        surplus = [(path, size) for path, size in _files_below(top) if path not in kept and self._choice.takes(path)]
        if not surplus:
            return
        total = sum(size for _, size in surplus)
        self._confirm(Removal(keys=len(surplus), size=total, copied=len(surplus), copied_size=total))
        with contextlib.closing(Directory(top)) as directory:
            for path, _ in surplus:
                try:
                    directory.delete(path)
                except OSError as exc:
                    transfer.fail(path, NotCopied(f"cannot delete {top / path}: {exc.strerror}"))
                else:
                    transfer.deleted += 1


def check_directory(top: Path, prefix: str) -> Path:
    """Return a directory whose files are to be copied to keys.

    Raises:
        UsageError: there is no such directory.
    """
    if not top.exists():
        raise UsageError(f"no such directory: {top}")
    if not top.is_dir():
        raise UsageError(
            f"{top} is not a directory", hint=f"copy a file without -r: {typed('sshmap', 'cp', str(top), show(prefix))}"
        )
    return top


def _go_on(_: Removal) -> None:
    """Ask nobody."""


def _joined(transfer: Transfer, failures: dict[str, SshmapError]) -> Transfer:
    """Add what could not be read here."""
    for name, error in failures.items():
        transfer.fail(name, error)
    return transfer


def _is_equal(path: Path, placed: Placed) -> bool:
    """Say whether a plain file's content is that of a key."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_size == placed.size
            and digest_fd(fd) == (placed.size, placed.digest)
        )
    except OSError:
        return False
    finally:
        os.close(fd)


def _files_below(top: Path) -> Iterator[tuple[str, int]]:
    """Go through what is no directory below a directory, which may be a link, with its size in bytes; links below it count as what they are."""
    start = os.path.realpath(top)
    for folder, folders, files, fd in os.fwalk(start):
        above = os.path.relpath(folder, start)
        folders.sort()
        for name in sorted(files):
            path = name if above == "." else f"{above}/{name}"
            # it may be gone since
            with contextlib.suppress(FileNotFoundError):
                yield path, os.lstat(name, dir_fd=fd).st_size
