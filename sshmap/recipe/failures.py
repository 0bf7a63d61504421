"""Exceptions of a recipe's own functions, in one line."""

from __future__ import annotations

import sysconfig
import traceback

_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def described(exc: BaseException) -> str:
    """Return what an exception is, and which line of the user's it came from."""
    frames = traceback.extract_tb(exc.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)]
    frame = (own or frames)[-1]
    return f"{type(exc).__name__}: {exc} ({frame.filename}, line {frame.lineno})"
