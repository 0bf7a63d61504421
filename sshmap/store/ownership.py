"""Whether other users could alter a root: what sshmap runs, reads or writes below it has to be ours.

Checked before anything below a root is used, on the laptop's own hosts and on those of ssh. It imports the
standard library only, as its text is sent to hosts that have nothing of sshmap yet.

All parents are checked, up to ``/``: a user who may rename one of them may put another root in our root's place. A
sticky directory such as /tmp is accepted as a parent: other users cannot rename what we made in it. Links among the
parents are followed if we or root made them, as /var is one on macOS; the root itself must not be a link.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

#: links followed one after the other; more of them count as a circle
_MOST_LINKS = 40


def flaw(root: str) -> str:
    """Say why a root must not be used; empty if it may. One that is not there yet is judged by its parents."""
    place = os.path.abspath(os.path.expanduser(root))
    return _own_flaw(place) or _flaw_above(os.path.dirname(place), _MOST_LINKS)


def _own_flaw(place: str) -> str:
    seen = _look(place)
    if seen is None:
        return ""
    if stat.S_ISLNK(seen.st_mode):
        return f"{place} is a link; a root has to be a directory and no link"
    if seen.st_uid != os.geteuid():
        return f"{place} belongs to {_name(seen.st_uid)}"
    return f"{place} can be written to by others" if seen.st_mode & 0o022 else ""


def _flaw_above(folder: str, links: int) -> str:
    """Judge a directory and all above it."""
    found = ""
    if folder != os.path.dirname(folder):
        found = _flaw_above(os.path.dirname(folder), links)
    seen = None if found else _look(folder)
    if seen is None:
        return found
    if seen.st_uid not in (0, os.geteuid()):
        return f"{folder} belongs to {_name(seen.st_uid)}"
    if stat.S_ISLNK(seen.st_mode):
        target = os.path.join(os.path.dirname(folder), os.readlink(folder))
        return _flaw_above(os.path.normpath(target), links - 1) if links else f"{folder} leads in a circle"
    if seen.st_mode & stat.S_ISVTX or not _is_open(seen):
        return ""
    return f"{folder} can be written to by others"


def _is_open(seen: os.stat_result) -> bool:
    """Say whether other users may write; the group may if it has no other members, as the one that many systems make per user."""
    return bool(seen.st_mode & 0o002 or (seen.st_mode & 0o020 and not _is_private(seen.st_gid)))


def _is_private(gid: int) -> bool:
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return gid != 0 and group.gr_name == name and not set(group.gr_mem) - {name}


def _look(path: str) -> os.stat_result | None:
    """Return what is at a path; None if nothing is, or nothing that this user could use."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
