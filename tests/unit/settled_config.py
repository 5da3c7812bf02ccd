"""A configuration as a run has it: resolved in layers, through JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from harness.method import hyper


def settled(
    config_class: type[Any],
    layered: Sequence[hyper.Defaults],
    keys: Sequence[str],
    overrides: Mapping[str, str] = MappingProxyType({}),
    method: str = "it",
) -> Any:  # fmt: skip
    values = hyper.resolve(config_class, layered, keys, overrides, method=method)
    return hyper.from_json(config_class, {name: entry.value for name, entry in values.items()})
