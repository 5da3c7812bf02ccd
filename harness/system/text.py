"""Text that neither steers a terminal nor breaks a page: what may be stored, and how anything else is shown."""

from __future__ import annotations

import re
from typing import Any

# C0 and C1 controls, DEL, lone surrogates, and two code points that XML forbids
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_UNSAFE_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def is_plain(text: str, *, lines: bool = False) -> bool:
    """Whether a text has no control character and no lone surrogate; with ``lines``, tabs and line ends may be."""
    return not (_UNSAFE_IN_LINES if lines else _UNSAFE).search(text)


def visible(text: str, *, lines: bool = False) -> str:
    r"""Write control characters and lone surrogates as escapes; with ``lines``, tabs and line ends stay.

    >>> visible("a\x1b[2Jb\0")
    'a\\x1b[2Jb\\0'
    """
    return (_UNSAFE_IN_LINES if lines else _UNSAFE).sub(_escape, text)


def all_visible(value: Any) -> Any:
    """Do so in every text and key of a JSON value; line ends stay."""
    if isinstance(value, str):
        return visible(value, lines=True)
    if isinstance(value, dict):
        return {visible(str(key)): all_visible(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [all_visible(entry) for entry in value]
    return value


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 0:
        return "\\0"
    named = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return named or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
