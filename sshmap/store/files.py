"""The key files below data/: opened and linked without following a link anywhere on the way.

A key's path is walked part by part with O_NOFOLLOW, so a link planted below the root
leads nowhere. Rejected: `os.path.realpath` and compare, which races with whoever plants
the link; openat2, which Python 3.11 does not offer.

A finished file is put in place by rename. The caller holds the ledger's write lock, so a file that lies there already is
either the one to be replaced or a leftover without a row. Rejected: link and unlink, which is a second way for the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable

from sshmap.errors import DigestMismatch, KeyExists, NoSpace, SshmapError
from sshmap.model import show, typed
from sshmap.store.layout import Root, host_error, remove_tree
from sshmap.store.seal import Seal

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES = 64
_TRIES = 100
#: bytes of a file's name
_LONGEST = 255


class KeyFiles:
    """The files of one root's keys; directories stay open between calls.

    Args:
        root: the host's root.
        is_key: says whether a name has a row; a file whose name has none is a leftover and may be removed.
        is_above: says whether a key with a row lies below a name.
    """

    def __init__(self, root: Root, is_key: Callable[[str], bool], is_above: Callable[[str], bool]) -> None:
        self._root = root
        self._is_key, self._is_above = is_key, is_above
        self._open: OrderedDict[str, int] = OrderedDict()

    def path(self, name: str) -> str:
        """Return the path of a key's file, for a command to read."""
        return f"{self._root.data}/{name}"

    def open(self, name: str) -> int:
        """Open a key for reading and return the descriptor.

        Raises:
            DigestMismatch: the file is missing or is not a plain file.
        """
        folder, base = _split(name)
        for _ in range(2):
            try:
                fd = os.open(
                    base, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self._folder(folder)
                )
            except OSError as exc:
                self._forget(folder)
                cause = exc
                continue
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
            raise DigestMismatch(f"{show(name)} is not a plain file any more", hint=_damaged(name))
        raise DigestMismatch(f"the file of {show(name)} is missing: {cause.strerror}", hint=_damaged(name)) from cause

    def seal(self, name: str) -> Seal | None:
        """Return the seal that a key's file has now; None if it is missing or no plain file."""
        folder, base = _split(name)
        for _ in range(2):
            try:
                status = os.stat(base, dir_fd=self._folder(folder), follow_symlinks=False)
            except OSError:
                self._forget(folder)
            else:
                return Seal.of(status) if stat.S_ISREG(status.st_mode) else None
        return None

    def place(self, source: str, name: str) -> Seal:
        """Move a finished file to a key's place and return its seal; what lies there is replaced.

        The caller holds the ledger's write lock.

        Raises:
            KeyExists: a key lies where a directory would be needed, or keys lie in a directory of this name.
            NoSpace: the disk is full.
        """
        folder, base = _split(name)
        for _ in range(_TRIES):
            try:
                parent = self._folder(folder, create=True)
                os.rename(source, base, dst_dir_fd=parent)
                return Seal.of(os.stat(base, dir_fd=parent, follow_symlinks=False))
            except NotADirectoryError as exc:
                if not self._clear_above(folder):
                    raise mapped_error(exc, name) from exc
            except FileNotFoundError as exc:
                self._forget(folder)
                if not os.path.exists(source):
                    raise DigestMismatch(f"the finished file for {show(name)} has vanished") from exc
            except IsADirectoryError:
                self._clear(name)
            except OSError as exc:
                raise mapped_error(exc, name) from exc
        raise KeyExists(f"{show(name)} cannot be put in place", hint="look what lies at its path below data/")

    def _clear(self, name: str) -> None:
        """Remove a directory without keys that lies at a key's place."""
        if self._is_above(name):
            raise _collision(name)
        self._forget_below(name)
        try:
            remove_tree(self._root.data / name)
        except OSError as exc:
            raise mapped_error(exc, name) from exc

    def _clear_above(self, folder: str) -> bool:
        """Remove a leftover file that lies where a directory is needed; say whether there was one."""
        self._forget(folder)
        parts = folder.split("/")
        for length in range(1, len(parts) + 1):
            above = "/".join(parts[:length])
            status = os.lstat(self._root.data / above)
            if stat.S_ISREG(status.st_mode) and not self._is_key(above):
                os.unlink(self._root.data / above)
                return True
            if not stat.S_ISDIR(status.st_mode):
                return False
        return False

    def _forget_below(self, folder: str) -> None:
        for known in [known for known in self._open if known == folder or known.startswith(f"{folder}/")]:
            os.close(self._open.pop(known))

    def unlink(self, name: str) -> None:
        """Delete a key's file, if it is there, and the directories that become empty by that."""
        folder, base = _split(name)
        try:
            os.unlink(base, dir_fd=self._folder(folder))
        except (FileNotFoundError, NotADirectoryError):
            self._forget(folder)
            return
        except OSError as exc:
            self._forget(folder)
            if exc.errno not in (errno.ELOOP, errno.EISDIR):
                raise mapped_error(exc, name) from exc
        self._prune(folder)

    def put_aside(self, name: str) -> str:
        """Move what lies at a key's place to the quarantine, as it is; the caller holds the ledger's write lock.

        Returns:
            Its path below the root, empty if nothing lies there.

        Raises:
            SshmapError: it cannot be moved.
        """
        folder, base = _split(name)
        aside = f"{base.encode()[: _LONGEST - len(_unique())].decode(errors='ignore')}{_unique()}"
        # directories that are open may have been removed by another process
        self._forget(folder)
        try:
            source = self._folder(folder)
            os.stat(base, dir_fd=source, follow_symlinks=False)
        except OSError:
            return ""
        try:
            target = self._quarantine(folder)
            try:
                os.rename(base, aside, src_dir_fd=source, dst_dir_fd=target)
            finally:
                os.close(target)
        except OSError as exc:
            raise host_error(OSError(exc.errno, exc.strerror), self._root.quarantine) from exc
        self._prune(folder)
        return f"{self._root.quarantine.name}/{folder}/{aside}"

    def _quarantine(self, folder: str) -> int:
        """Open a directory of the quarantine, which is made if it is not there, without following a link."""
        parts = (self._root.quarantine.name, *folder.split("/"))
        fd = os.open(self._root.path, _DIRECTORY)
        for part in parts:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fd)
                below = os.open(part, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _prune(self, folder: str) -> None:
        while folder:
            self._forget(folder)
            parent, base = _split(folder)
            try:
                os.rmdir(base, dir_fd=self._folder(parent))
            except OSError:
                return
            folder = parent

    def _folder(self, folder: str, *, create: bool = False) -> int:
        """Return a descriptor of a directory below data/."""
        known = self._open.get(folder)
        if known is not None:
            self._open.move_to_end(folder)
            return known
        if not folder:
            fd = os.open(self._root.data, _DIRECTORY)
        else:
            parent, base = _split(folder)
            above = self._folder(parent, create=create)
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(base, 0o755, dir_fd=above)
            fd = os.open(base, _DIRECTORY, dir_fd=above)
        self._open[folder] = fd
        if len(self._open) > _OPEN_DIRECTORIES:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)
        return fd

    def _forget(self, folder: str) -> None:
        """Close a directory and those above: one of them may have been removed by another process."""
        while True:
            fd = self._open.pop(folder, None)
            if fd is not None:
                os.close(fd)
            if not folder:
                return
            folder = _split(folder)[0]

    def close(self) -> None:
        """Close all directories."""
        while self._open:
            os.close(self._open.popitem()[1])


def mapped_error(exc: OSError, name: str) -> SshmapError:
    """Return the error that a failed system call on a key's file means."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left for {show(name)}", hint="free some space, for example with sshmap rm -r")
    if exc.errno in (errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
        return _collision(name)
    if exc.errno == errno.ELOOP:
        return DigestMismatch(
            f"a link lies on the path of {show(name)} below data/",
            hint="somebody changed data/ by hand; remove the link",
        )
    if exc.errno == errno.ENAMETOOLONG:
        return KeyExists(f"{show(name)} is too long for the file system below data/")
    return SshmapError(f"{show(name)}: {exc.strerror}")


def _collision(name: str) -> KeyExists:
    return KeyExists(
        f"{show(name)} collides with another key: one name is the directory of the other",
        hint="give one of them another name",
    )


def _split(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    return folder, base


def _unique() -> str:
    """Return the end of a file's name that no other has."""
    return f".{os.urandom(8).hex()}"


def _damaged(name: str) -> str:
    return f"{typed('sshmap', 'rm', show(name))}, then make or copy it again"
