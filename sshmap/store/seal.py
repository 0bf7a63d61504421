"""Seals: what tells, without reading it, that a file still has the content that was digested.

A finished file is made read-only and stamped before its content is digested: its time of modification says when, with a
fraction of a second that is ours. When it has become a key, its size, stamp, inode and time of change (ctime) are noted
in the key's row. Whatever is done to a file changes its ctime, which no user can set; so a write is seen although size and
stamp were put back (`touch -r`, `cp -p`), and so is another file that was moved there.

A seal that is broken does not mean damage, as a backup that makes links, a restored file or a chmod break it too:
the content has to be read. A seal that holds is trusted for `TRUSTED` seconds only, as a disk may lose content without a trace in the seal.
Not seen: a write within the same tick of the kernel's clock (at most 10 ms) as the commit, if size and stamp are put back;
and one through a memory mapping that was made before the file was sealed (those of a command end with it).
"""

from __future__ import annotations

import os
import time

import msgspec

#: seconds after the stamp in which a seal that holds is trusted, and the content not read
TRUSTED = 600
#: fraction of a second by which a time stamp is known as ours, in ns; where a file system rounds it away, no seal counts
_MARK = 586_201_937
_SECOND = 10**9
#: what SQLite takes as an integer; some file systems number their files with all 64 bits
_LARGEST = 2**63 - 1


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """A file's size and times, as they were when it became a key or as they are now."""

    size: int
    #: when it was stamped, in seconds since the epoch; 0 if it was written to since, or never was
    stamped: int
    inode: int
    #: when anything of it was changed last, in ns since the epoch
    ctime: int

    @classmethod
    def of(cls, status: os.stat_result) -> Seal:
        """Return the seal that a file with this status has."""
        second, fraction = divmod(status.st_mtime_ns, _SECOND)
        stamped = second if fraction == _MARK else 0
        return cls(status.st_size, stamped, status.st_ino & _LARGEST, status.st_ctime_ns)

    @property
    def fresh(self) -> bool:
        """Whether a file with this seal was stamped a short while ago, and since the machine started.

        The monotonic clock begins with the machine: after a power cut a file may have its size and stamp without its content.
        """
        return self.stamped > 0 and 0 <= time.time() - self.stamped < min(TRUSTED, time.monotonic())


def seal(fd: int) -> int:
    """Make a finished file read-only and stamp it; return when, in seconds since the epoch."""
    now = int(time.time())
    os.fchmod(fd, 0o444)
    os.utime(fd, ns=(now * _SECOND + _MARK,) * 2)
    return now
