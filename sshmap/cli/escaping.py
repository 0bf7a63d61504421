"""How text from hosts and users is shown: characters that control a terminal, begin a line or reverse text are escaped.

An escape is a backslash with ``n``, ``r``, ``t``, ``xHH`` or ``uHHHH``. In names and tables a backslash is doubled,
so that no two names look the same; ``--json`` and ``ls -0`` show names as they are.
"""

from __future__ import annotations

import re

#: C0 and C1 controls, line and paragraph separator, and what changes the direction of letters
_UNSAFE = r"\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_IN_NAMES = re.compile(rf"[{_UNSAFE}\t\\]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def clean(text: str) -> str:
    """Escape what is unsafe in a message, or in a line that a host said; the result is one line."""
    return _IN_TEXT.sub(_escaped, text)


def clean_lines(text: str) -> str:
    """Escape what is unsafe in a text that may have several lines; all but the first are marked."""
    return "\n    | ".join(clean(line) for line in text.split("\n"))


def escape(name: str) -> str:
    """Escape what is unsafe in a name, and backslashes."""
    return _IN_NAMES.sub(_escaped, name)


def clean_json(text: str) -> str:
    """Escape what is unsafe in JSON, which stays the same value."""
    return _IN_TEXT.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
