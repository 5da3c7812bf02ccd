"""Hyper-parameters: declare them in a dataclass, resolve them in layers, remember where each came from."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from harness.errors import ConfigError, nearest

T = TypeVar("T")
Phase = Literal["fit", "adapt"]
Defaults = Mapping[str, Mapping[str, Any]]
REQUIRED_BY = "required by "  # begins the origin of what another method says of a fit


def hyper(default: T, doc: str, *, phase: Phase = "fit", in_epochs: bool = False, later: bool = False) -> T:
    """Declare a hyper-parameter of a method's ``Config`` dataclass.

    Args:
        default: its value where no layer says otherwise.
        doc: unit, range and paper section; shown by ``fsbench methods NAME``.
        phase: "fit" when the training depends on it; "adapt" when only what follows does, so that the
            checkpoint can be reused.
        in_epochs: whether it counts epochs: it is stretched with ``epochs`` where a training is given so many images.
        later: no part of a configuration at its default, so that ids from before it was declared stay.
    """
    metadata = {"doc": doc, "phase": phase, "in_epochs": in_epochs, "later": later}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ConfigValue:
    """One resolved hyper-parameter.

    Attributes:
        value: JSON value.
        origin: "default", a DEFAULTS key such as "glyphs", or "--set".
        phase: "fit" values decide the training; "adapt" values only what follows it.
    """

    value: Any
    origin: str
    phase: Phase = "fit"


def layers(benchmark: str, setting: str, backbone: str) -> tuple[str, ...]:
    """Name the DEFAULTS keys that apply to a run, the strongest last; other queries are no other setting here.

    >>> layers("mini", "mini-5w1s-q16", "conv4")
    ('mini', 'mini-5w1s', 'mini-5w1s-q16', 'conv4/mini', 'conv4/mini-5w1s', 'conv4/mini-5w1s-q16')
    """
    names = dict.fromkeys((benchmark, re.sub(r"-q\d+", "", setting), setting))
    return (*names, *(f"{backbone}/{name}" for name in names))


def resolve(
    config_class: type[Any],
    defaults: Sequence[Defaults],
    keys: Sequence[str],
    overrides: Mapping[str, str],
    *,
    method: str,
    recipe: str = "",
) -> dict[str, ConfigValue]:
    """Stack field defaults, the DEFAULTS entries named by ``keys``, and ``--set`` overrides.

    Args:
        config_class: frozen dataclass.
        defaults: the method's DEFAULTS, then those of a recipe; a later one wins.
        keys: from ``layers``, the strongest last.
        overrides: texts of ``--set key=value``, parsed by each field's type.
        method: name used in messages.
        recipe: name of the tables after the first, told in the origin of what they change.

    Returns:
        Every field of ``config_class``, with where its value came from.

    Raises:
        ConfigError: naming every unknown key, unreadable value and value out of range at once.
    """
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    hints = typing.get_type_hints(config_class)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(fields, "default")
    problems: list[str] = []
    for i, table in enumerate(defaults, 1):
        told = f" ({recipe})" if recipe and i > 1 else ""
        for key in keys:
            for name, value in table.get(key, {}).items():
                if name in fields:
                    values[name], origins[name] = value, key + told
                else:
                    problems.append(
                        f"DEFAULTS[{key!r}] of {method} sets `{name}`, which Config does not declare."
                    )
    for name, text in overrides.items():
        if name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            problems.append(
                f"`{name}` is not a hyper-parameter of {method}.{nearest(name, fields)} Known: {known}."
            )
            continue
        try:
            values[name], origins[name] = parse(text, hints[name]), "--set"
        except ValueError as error:
            problems.append(
                f"--set {name}={text}: {error}".rstrip(".") + ("" if str(error)[-1:] == "?" else ".")
            )
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        config = config_class(**values)
    except ValueError as error:
        raise ConfigError(f"{method}: {error}") from error
    resolved = {
        name: ConfigValue(as_json(getattr(config, name)), origin, phase_of(config_class, name))
        for name, origin in origins.items()
    }
    return _without_later_defaults(config_class, resolved)


def _without_later_defaults(
    config_class: type[Any], values: Mapping[str, ConfigValue]
) -> dict[str, ConfigValue]:
    """Leave out what was declared later and is at its default: it says nothing, and older ids do not have it."""
    later = {f.name: as_json(f.default) for f in dataclasses.fields(config_class) if f.metadata.get("later")}
    return {k: v for k, v in values.items() if k not in later or v.value != later[k]}


def given(
    config_class: type[Any],
    values: Mapping[str, ConfigValue],
    said: Mapping[str, Any],
    *,
    method: str,
    by: str,
) -> dict[str, ConfigValue]:
    """Put what another method says of a configuration in place of what was resolved.

    Args:
        config_class, values: the configuration.
        said: Python values by name, or texts as ``--set`` has them.
        method, by: whose it is and who says so.

    Raises:
        ConfigError: naming every unknown key, and values out of range.
    """
    known = [f.name for f in dataclasses.fields(config_class)]
    if unknown := [name for name in said if name not in known]:
        raise ConfigError(
            f"{by} requires {method} with {', '.join(f'`{name}`' for name in unknown)}, no hyper-parameter of it."
            f"{nearest(unknown[0], known)} Known: {', '.join(sorted(known)) or 'none'}."
        )
    origin, hints = f"{REQUIRED_BY}{by}", typing.get_type_hints(config_class)
    try:
        read = {name: parse(v, hints[name]) if isinstance(v, str) else v for name, v in said.items()}
    except ValueError as error:
        raise ConfigError(f"{by} requires {method} with {dict(said)}: {error}") from error
    changed = {
        name: ConfigValue(as_json(v), origin, phase_of(config_class, name)) for name, v in read.items()
    }
    merged = _without_later_defaults(config_class, {**values, **changed})
    from_json(config_class, {name: entry.value for name, entry in merged.items()})
    return merged


def parse(text: str, kind: Any) -> Any:
    """Read a value written on the command line by its declared type.

    >>> parse("1", float), parse("2,3", tuple[int, ...]), parse("none", int | None)
    (1.0, (2, 3), None)

    Raises:
        ValueError: saying what was expected.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if type(None) in args and text.lower() in ("none", "null", ""):
            return None
        return parse(text, next(a for a in args if a is not type(None)))
    if origin is Literal:
        by_text = {str(a): a for a in args}
        if text not in by_text:
            raise ValueError(f"expected one of {', '.join(by_text)}, found {text!r}.{nearest(text, by_text)}")
        return by_text[text]
    if origin is tuple:
        parts = [p.strip() for p in text.strip("()").split(",") if p.strip()]
        if args[-1:] != (Ellipsis,) and len(parts) != len(args):
            raise ValueError(f"expected {len(args)} values separated by commas, found {len(parts)}")
        kinds = [args[0]] * len(parts) if args[-1:] == (Ellipsis,) else list(args)
        return tuple(parse(p, k) for p, k in zip(parts, kinds, strict=True))
    return _parse_plain(text, kind)


def _parse_plain(text: str, kind: Any) -> Any:
    if kind is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in known:
            raise ValueError(f"expected true or false, found {text!r}")
        return known[text.lower()]
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise ValueError(f"expected {noun}, found {text!r}") from None
        if not math.isfinite(value):
            raise ValueError(f"expected a finite number, found {text!r}")
        return value
    if kind is str:
        return text
    raise ValueError(f"a value of type {kind} cannot be written on the command line")


def phase_of(config_class: type[Any], name: str) -> Phase:
    """Tell whether a field decides the training ("fit") or only what follows it ("adapt")."""
    field = next(f for f in dataclasses.fields(config_class) if f.name == name)
    return typing.cast(Phase, field.metadata.get("phase", "fit"))


def training_values(config: Any) -> dict[str, Any]:
    """The hyper-parameters of a ``Config`` that decide its training, by name: what a fit below it is asked to have, too."""
    names = (f.name for f in dataclasses.fields(config))
    return {name: getattr(config, name) for name in names if phase_of(type(config), name) == "fit"}


def as_json(value: Any) -> Any:
    """Turn a hyper-parameter into its JSON form (tuples become lists)."""
    return [as_json(v) for v in value] if isinstance(value, (tuple, list)) else value


def from_json(config_class: type[Any], values: Mapping[str, Any]) -> Any:
    """Rebuild a ``Config`` from JSON values (lists become tuples).

    Raises:
        ConfigError: when a value is not accepted any more.
    """
    hints = typing.get_type_hints(config_class)
    kept = {k: _tuples(v) if _holds_tuple(hints.get(k)) else v for k, v in values.items()}
    try:
        return config_class(**kept)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{config_class.__qualname__} does not accept this configuration: {error}."
        ) from error


def _holds_tuple(kind: Any) -> bool:
    """Whether a type is a tuple, or one of several that is."""
    return typing.get_origin(kind) is tuple or any(_holds_tuple(arg) for arg in typing.get_args(kind))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
