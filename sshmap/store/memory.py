"""The memory of this machine that commands could use."""

from __future__ import annotations

import re

_AVAILABLE = re.compile(rb"MemAvailable:\s*(\d+) kB")


def available() -> int:
    """Return the bytes of memory that are available without swapping; where the system does not say, more than anyone has."""
    try:
        with open("/proc/meminfo", "rb") as file:
            found = _AVAILABLE.search(file.read())
    except OSError:
        found = None
    return int(found[1]) << 10 if found else 1 << 62
