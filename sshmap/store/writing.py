"""Writing and copying the content of files.

In pieces of less than 64 KiB: for more at once Linux takes larger blocks of free memory, and on
a virtual machine those may have been given back to the host machine, which is slow to return them.
On one such machine 700 MB took 2.2 s in pieces of 1 MiB, 1.5 s of 64 KiB and 0.26 s of 48 KiB.
"""

from __future__ import annotations

import errno
import os
import stat

#: bytes that are written at once
PIECE = 48 * 1024


def write_all(fd: int, content: memoryview) -> None:
    """Write all of some content at the file's offset.

    Raises:
        OSError: the disk refuses.
    """
    while content:
        content = content[os.write(fd, content[:PIECE]) :]


def link_or_copy(fd: int, path: str) -> bool:
    """Give an open file another name, or copy it where it could still be written to or lies on another file system.

    Returns:
        Whether it was linked.

    Raises:
        OSError: it is not a plain file, or the disk refuses.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    sealed = not status.st_mode & 0o222 and status.st_uid == os.geteuid()
    linked = sealed and _linked(fd, path)
    if not linked:
        copy(fd, path)
    return linked


def _linked(fd: int, path: str) -> bool:
    """Link an open file, which only Linux can and only within a file system; say whether it did."""
    try:
        # only with a descriptor of a directory does os.link follow a link, so one is named that is not used
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except OSError:
        return False
    return True


def copy(fd: int, path: str) -> None:
    """Copy an open file, from its beginning, to a new one that is read-only.

    Rejected: sendfile, which macOS does not have from file to file; it takes as much CPU time.
    """
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        buffer, offset = memoryview(bytearray(PIECE)), 0
        while count := os.preadv(fd, [buffer], offset):
            write_all(out, buffer[:count])
            offset += count
    finally:
        os.close(out)
