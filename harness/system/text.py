"""Text that neither steers a terminal nor breaks a page: what may be stored, and how anything else is shown."""

from __future__ import annotations

from typing import Any

from harness.errors import UNSAFE, UNSAFE_IN_LINES, visible


def is_plain(text: str, *, lines: bool = False) -> bool:
    """Whether a text has no control character and no lone surrogate; with ``lines``, tabs and line ends may be."""
    return not (UNSAFE_IN_LINES if lines else UNSAFE).search(text)


def all_visible(value: Any) -> Any:
    """Do so in every text and key of a JSON value; line ends stay."""
    if isinstance(value, str):
        return visible(value, lines=True)
    if isinstance(value, dict):
        return {visible(str(key)): all_visible(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [all_visible(entry) for entry in value]
    return value
