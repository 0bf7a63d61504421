"""Inventories to start from, out of what a user has already: the hosts of s4, or those of an ssh_config."""

from __future__ import annotations

import fnmatch
import glob
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from sshmap.errors import NothingMatched, UsageError

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


def from_s4(path: Path) -> str:
    """Write an inventory of the servers in an s4.conf, in its order, which numbers them.

    Args:
        path: a file with an ``address:port`` in each line; the ports are s4's own and say only which server is meant.

    Raises:
        UsageError: it cannot be read, or a line is none of these.
        NothingMatched: it names no server.
    """
    tables: list[list[tuple[str, str]]] = []
    seen: dict[str, None] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not (text := line.partition("#")[0].strip()):
            continue
        address, _, port = text.rpartition(":") if ":" in text else (text, "", "")
        if not _HOST.fullmatch(address) or not (not port or port.isdecimal()):
            raise UsageError(f"{path}: line {number}: {text[:100]!r} is not an address and port")
        if address in seen:
            # several servers of one machine
            tables.append([("name", f"{address}-{port}"), ("address", address), ("root", f"~/.sshmap-{port}")])
        else:
            tables.append([("name", address)])
        seen[address] = None
    if not tables:
        raise NothingMatched(f"{path} names no server")
    return _toml(f"the servers in {path}", tables)


def from_ssh(pattern: str, config: Path) -> str:
    """Write an inventory of those hosts of an ssh_config whose names match a pattern; all else about them stays there.

    Args:
        pattern: as in ssh_config, ``*`` and ``?``.
        config: the ssh_config; what it includes is read as well.

    Raises:
        UsageError: it cannot be read.
        NothingMatched: no host matches.
    """
    names = [name for name in dict.fromkeys(_aliases(config, set())) if fnmatch.fnmatchcase(name, pattern)]
    if not names:
        raise NothingMatched(f"no Host of {config} matches {pattern!r}")
    return _toml(f"the hosts of {config} that match {pattern!r}", [[("name", name)] for name in names])


def _aliases(config: Path, read: set[Path]) -> Iterator[str]:
    """Go through the names after Host, other than patterns, in the order of the file; each file is read once, as files may include each other."""
    read.add(config.expanduser().resolve())
    for line in _read(config).splitlines():
        try:
            words = shlex.split(line.replace("=", " ", 1), comments=True)
        except ValueError:
            continue
        keyword = words[0].lower() if words else ""
        if keyword == "host":
            yield from filter(_HOST.fullmatch, words[1:])
        elif keyword == "include":
            for found in _included(words[1:]):
                if found.resolve() not in read:
                    yield from _aliases(found, read)


def _included(words: list[str]) -> Iterator[Path]:
    for word in words:
        place = Path("~/.ssh").expanduser() / Path(word).expanduser()
        yield from map(Path, sorted(glob.glob(str(place))))


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"cannot read {path}: {getattr(exc, 'strerror', None) or 'it is not UTF-8'}") from exc


def _toml(what: str, tables: list[list[tuple[str, str]]]) -> str:
    lines = [
        f"# From {what.encode('ascii', 'backslashreplace').decode()}. inventory.example.toml says what else may stand here.",
        "# The order numbers the hosts: 003_x lies on host 3 % n, counted from 0.",
    ]
    for table in tables:
        lines += ["", "[[hosts]]", *(f'{field} = "{value}"' for field, value in table)]
    return "\n".join(lines) + "\n"
