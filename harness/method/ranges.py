"""Ranges of hyper-parameters, checked together so that one message says all that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

Range = Literal["≥ 0", "≥ 1", "≥ 2", "> 0", "in [0, 1)", "in [-1, 1]"]
_RANGES: Mapping[Range, Callable[[float], bool]] = {
    "≥ 0": lambda value: value >= 0,
    "≥ 1": lambda value: value >= 1,
    "≥ 2": lambda value: value >= 2,
    "> 0": lambda value: value > 0,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in [-1, 1]": lambda value: -1 <= value <= 1,
}


def check_ranges(config: Any, ranges: Mapping[Range, str], rules: Mapping[str, bool] | None = None) -> None:
    """Refuse a ``Config`` whose values are out of range; for its ``__post_init__``.

    Args:
        config: the instance; fields it does not have are passed over, so that relatives share one table.
        ranges: range → names of fields, separated by spaces.
        rules: what must hold beside, as a sentence, → whether it does.

    Raises:
        ValueError: naming every field and rule that is violated.

    >>> from types import SimpleNamespace
    >>> check_ranges(SimpleNamespace(lr=0.0, epochs=3), {"> 0": "lr", "≥ 1": "epochs"})
    Traceback (most recent call last):
    ValueError: lr must be > 0, found 0.0
    """
    wrong = [*_outside(config, ranges), *(text for text, holds in (rules or {}).items() if not holds)]
    if wrong:
        raise ValueError("; ".join(wrong))


def _outside(config: Any, ranges: Mapping[Range, str]) -> Iterator[str]:
    for name, fields in ranges.items():
        for field in fields.split():
            value = getattr(config, field, None)
            if value is not None and not _RANGES[name](value):
                yield f"{field} must be {name}, found {value}"
