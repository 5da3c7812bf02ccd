"""Text that neither steers a terminal nor breaks a page: what may be stored, and how anything else is shown."""

from __future__ import annotations

from numbers import Real
from typing import Any

from harness.errors import UNSAFE, UNSAFE_IN_LINES, ConfigError, visible


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


def plain_text(where: str, value: Any) -> str:
    """A text or a number that a user wrote in a file or in Python, as it would be typed.

    Raises:
        ConfigError: for anything else, beginning with ``where``.
    """
    if isinstance(value, bool) or not isinstance(value, str | Real) or not is_plain(str(value)):
        raise ConfigError(f"{where} must be a text of plain characters in quotes, or a number.")
    return str(value)


def value_text(where: str, value: Any) -> str:
    """The value of a hyper-parameter as ``--set`` has it: also true, false, nothing, and lists with commas between.

    >>> value_text("lr", (0.1, 2)), value_text("mirror", True)
    ('0.1,2', 'True')

    Raises:
        ConfigError: as ``plain_text``.
    """
    if isinstance(value, list | tuple):
        return ",".join(value_text(where, entry) for entry in value)
    return str(value) if value is None or isinstance(value, bool) else plain_text(where, value)
