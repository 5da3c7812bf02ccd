"""What a record from outside may hold: types, ranges, lengths and plain text, declared as shapes and checked before use.

A shape is a function that is given a value and its name, and raises ValueError where the value is not what it says.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness.errors import visible
from harness.system.text import is_plain

Shape = Callable[[Any, str], None]
_DEEPEST = 16  # levels of a JSON value of no declared shape
_MOST = 1_000_000  # its entries, all levels together


def load_json(content: str | bytes, most_bytes: int) -> Any:
    """Read JSON.

    Args:
        content: the text.
        most_bytes: more is refused before it is parsed.

    Raises:
        ValueError: when it is too long, too deeply nested or not JSON.
    """
    if len(content) > most_bytes:
        raise ValueError(f"it has {len(content):,} bytes; at most {most_bytes:,} are read")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def text(most: int = 300, *, lines: bool = False, pattern: str = "") -> Shape:
    """Plain text of at most so many characters; with ``lines``, tabs and line ends may be in it."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str):
            raise _wrong(name, value, "a text")
        if len(value) > most:
            raise ValueError(f"{name} has {len(value):,} characters, at most {most:,} are allowed")
        if not is_plain(value, lines=lines):
            raise ValueError(f"{name} holds a control character or half a character: {_short(value)}")
        if pattern and not re.fullmatch(pattern, value):
            raise _wrong(name, value, f"of the form {pattern}")

    return check


def whole(low: int, high: int) -> Shape:
    """A whole number in [low, high]; no truth value."""

    def check(value: Any, name: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(name, value, f"a whole number from {low:,} to {high:,}")

    return check


def number(low: float = -1e300, high: float = 1e300) -> Shape:
    """A finite number in [low, high]."""

    def check(value: Any, name: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:  # NaN is in no range
            raise _wrong(name, value, f"a number from {low:g} to {high:g}")

    return check


def flag(value: Any, name: str) -> None:
    """Check a truth value."""
    if type(value) is not bool:
        raise _wrong(name, value, "true or false")


def one_of(*choices: Any) -> Shape:
    """One of a few values."""

    def check(value: Any, name: str) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise _wrong(name, value, f"one of {', '.join(map(str, choices))}")

    return check


def either(*shapes: Shape) -> Shape:
    """What one of several shapes allows."""

    def check(value: Any, name: str) -> None:
        problems = []
        for shape in shapes:
            try:
                return shape(value, name)
            except ValueError as error:
                problems.append(str(error))
        raise ValueError(" or ".join(problems))

    return check


def nothing(value: Any, name: str) -> None:
    """Check a null."""
    if value is not None:
        raise _wrong(name, value, "null")


def listed(entry: Shape, most: int) -> Shape:
    """A list of at most so many entries of one shape."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list | tuple):
            raise _wrong(name, value, "a list")
        if len(value) > most:
            raise ValueError(f"{name} has {len(value):,} entries, at most {most:,} are allowed")
        for i, part in enumerate(value):
            entry(part, f"{name}[{i}]")

    return check


def mapping(entry: Shape, most: int = 1_000, named: Shape | None = None) -> Shape:
    """Names with values of one shape; ``named``: the shape of the names."""

    def check(value: Any, name: str) -> None:
        _check_keys(value, name, most)
        for key, part in value.items():
            if named is not None:
                named(key, f"a name in {name}")
            entry(part, f"{name}.{key}")

    return check


def record(
    needed: Mapping[str, Shape], optional: Mapping[str, Shape], others: Callable[[str], Shape] | None = None
) -> Shape:
    """Fields by name.

    Args:
        needed: must be there.
        optional: may be there.
        others: the shape of a field of any other name; None refuses them.
    """
    known = {**needed, **optional}

    def check(value: Any, name: str) -> None:
        _check_keys(value, name, 1_000)
        missing = [key for key in needed if key not in value]
        unknown = [key for key in value if key not in known] if others is None else []
        if missing or unknown:
            told = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(unknown)}"] * bool(
                unknown
            )
            raise ValueError(f"{name} {' and '.join(told)}"[:300])
        for key, part in value.items():
            shape = known.get(key) or (others(key) if others else anything())
            shape(part, f"{name}.{key}")

    return check


def anything(*, is_finite: bool = True) -> Shape:
    """Any JSON value that is not too deep, too large or full of control characters."""
    return lambda value, name: _walk(value, name, _DEEPEST, [_MOST], is_finite)


def of(cls: type[Any], **shapes: Shape) -> Shape:
    """The shape of a dataclass as JSON: its fields, their types, and which may be absent.

    Args:
        cls: the dataclass.
        **shapes: of the fields that need more than their type says.
    """
    hints = get_type_hints(cls)
    known = {f.name: shapes.get(f.name) or of_type(hints[f.name]) for f in dataclasses.fields(cls)}
    has_default = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    return record(
        {name: shape for name, shape in known.items() if name not in has_default},
        {name: shape for name, shape in known.items() if name in has_default},
    )


def of_type(hint: Any) -> Shape:
    """The shape that an annotation means; what it does not know may be any JSON value."""
    origin, parts = get_origin(hint), get_args(hint)
    simple: dict[Any, Shape] = {
        str: text(), int: whole(0, 2**63 - 1), float: number(), bool: flag, type(None): nothing,
    }  # fmt: skip
    if hint in simple:
        return simple[hint]
    if origin is Literal:
        return one_of(*parts)
    if origin in (Union, types.UnionType):
        return either(*map(of_type, parts))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return mapping(of_type(parts[1]))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return listed(of_type(parts[0]), 10_000)
    return of(hint) if dataclasses.is_dataclass(hint) and isinstance(hint, type) else anything()


def _check_keys(value: Any, name: str, most: int) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(name, value, "names with values")
    if len(value) > most:
        raise ValueError(f"{name} has {len(value):,} entries, at most {most:,} are allowed")
    if not all(type(key) is str and len(key) <= 300 for key in value) or not is_plain("".join(value)):
        for key in value:  # one of them is wrong
            text()(key, f"a name in {name}")


def _walk(value: Any, name: str, deepest: int, left: list[int], is_finite: bool) -> None:
    left[0] -= 1
    if deepest < 0 or left[0] < 0:
        raise ValueError(f"{name[:100]} is nested too deeply or holds too much")
    if isinstance(value, Mapping):
        _check_keys(value, name, _MOST)
        for key, part in value.items():
            _walk(part, f"{name}.{key}", deepest - 1, left, is_finite)
    elif isinstance(value, list | tuple):
        for part in value:
            _walk(part, name, deepest - 1, left, is_finite)
    elif isinstance(value, str):
        text(100_000, lines=True)(value, name)
    elif isinstance(value, float):
        if is_finite and not math.isfinite(value):
            raise _wrong(name, value, "a finite number")
    elif type(value) is int:
        whole(-(2**63), 2**64)(value, name)
    elif value is not None and type(value) is not bool:
        raise _wrong(name, value, "a JSON value")


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name[:200]} is {_short(value)}, expected {expected}")


def _short(value: Any) -> str:
    """A value in a message: its beginning, without anything that steers a terminal."""
    if isinstance(value, str):
        return ascii(value[:60])
    if type(value) is int and abs(value) >= 2**64:
        return "a number of more than 64 bits"
    return visible(repr(value)[:60]) if isinstance(value, int | float | None) else f"a {type(value).__name__}"
