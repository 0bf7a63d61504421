"""Exceptions of a recipe's own functions, in one line."""

from __future__ import annotations

import traceback


def described(exc: BaseException) -> str:
    """Return what an exception is, and where it was raised."""
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__}: {exc} ({frame.filename}, line {frame.lineno})"
