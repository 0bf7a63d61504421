"""Writing the contents of keys to one stream: of one key, or of all in a directory or glob in the order of names."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from sshmap.client.conversations import Conversations
from sshmap.client.fetching import fetch_bytes, fetch_one
from sshmap.client.listing import Placed
from sshmap.errors import NothingMatched
from sshmap.model import check_name, glob_pattern, parse_directory, parse_name, show

#: small keys that are fetched ahead of the one that is being written, at the same time as it
_AHEAD = 4
#: bytes up to which a key is small
_SMALL = 1 << 20


def write_contents(
    conversations: Conversations, list_below: Callable[[str], Generator[Placed]], text: str, out: BinaryIO
) -> int:
    """Write the content of a key, or if there is none, of all keys in the directory or glob; return the bytes written.

    Args:
        conversations: the way to the hosts.
        list_below: lists all keys that start with a prefix.
        text: what was typed.
        out: where to write.

    Raises:
        NothingMatched: there is no such key, nor keys in a directory or glob of this name.
    """
    name = parse_name(text)
    if name.endswith("/") or "/" not in name:
        return _write_rows(conversations, list_below(parse_directory(text)), text, out)
    try:
        return fetch_one(conversations, check_name(name), out)
    except NothingMatched as exc:
        missing = exc
    pattern = glob_pattern(name) if "*" in name else ""
    rows = list_below(name[: name.index("*")] if pattern else f"{name}/")
    try:
        return _write_rows(conversations, rows, text, out, pattern)
    except NothingMatched:
        raise missing from None


def _write_rows(
    conversations: Conversations, rows: Generator[Placed], text: str, out: BinaryIO, pattern: str = ""
) -> int:
    """Write contents in the order of the rows, of those that match a pattern if there is one."""
    written = count = 0
    chosen = (row for row in rows if not pattern or re.fullmatch(pattern, row.path))
    pool = ThreadPoolExecutor(_AHEAD, thread_name_prefix="read")
    try:
        for row, ahead in _ahead(conversations, chosen, pool):
            count += 1
            if ahead is None:
                written += fetch_one(conversations, row.path, out)
            else:
                content = ahead.result()
                out.write(content)
                written += len(content)
    except Exception:
        # what is being fetched ahead uses sessions, which have to be given back before the caller closes them
        pool.shutdown(cancel_futures=True)
        raise
    finally:
        # an interrupt waits for nothing
        pool.shutdown(wait=False, cancel_futures=True)
        rows.close()
    if not count:
        raise NothingMatched(f"no key below {show(parse_name(text))}", hint="sshmap ls shows what there is")
    return written


def _ahead(
    conversations: Conversations, rows: Iterable[Placed], pool: ThreadPoolExecutor
) -> Iterator[tuple[Placed, Future[bytes] | None]]:
    """Go through the rows, each with its content if it is small; some are fetched ahead."""
    window: collections.deque[tuple[Placed, Future[bytes] | None]] = collections.deque()
    for row in rows:
        window.append((row, pool.submit(fetch_bytes, conversations, row.path) if row.size <= _SMALL else None))
        if len(window) > _AHEAD:
            yield window.popleft()
    yield from window
