"""What the records of a run may hold beside its specification (``spec``): header, provenance, curves, trials, fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.system.records import (
    Shape,
    anything,
    either,
    flag,
    listed,
    mapping,
    nothing,
    number,
    one_of,
    record,
    text,
    whole,
)

FORMAT = 1  # of run.json
LARGEST_JSON = 32 << 20  # bytes of a record; thumbnails make most of it
_COUNT = whole(0, 2**63 - 1)
_LONG = text(200_000, lines=True)
# Badges that are worked out when they are shown: a record that brings one claims what only its reader can know.
_RESERVED = re.compile(r"self-reported|spot-checked|disputed|partial|as-published|tuned\b.*")


def _badge(value: Any, name: str) -> None:
    text(60)(value, name)
    if _RESERVED.fullmatch(value):
        raise ValueError(f"{name} is `{value}`, which no record may say of itself")


def _other_fact(key: str) -> Shape:
    """Facts that later versions or plugins add: bytes are numbers, the rest is any JSON."""
    return _COUNT if key.endswith("_bytes") else anything()


def _any_text(value: Any, name: str) -> None:
    """A traceback may hold whatever a program said; it is made visible where it is stored."""
    if not isinstance(value, str) or len(value) > 1_000_000:
        raise ValueError(f"{name} is no text of at most a million characters")


_CONTRACT = record({}, {"name": _LONG, "passed": one_of(True, False, None), "detail": _LONG})
_ABOUT = record(
    {},
    {
        "docstring": _LONG,
        "deviations": _LONG,
        "reference": _LONG,
        "checked": text(),
        "contract": listed(_CONTRACT, 1_000),
    },
    lambda _: anything(),
)
_ROW = text(9, pattern="0|[1-9][0-9]*")
_SPENT = mapping(either(nothing, number(0, 1e30)), 10)
_NUMERICS: Mapping[str, Shape] = {
    "device": text(),
    "device_type": text(),
    "cpu": text(),
    "instructions": text(),
    "threads": _COUNT,
    "torch": text(),
    "libraries": mapping(text()),
}
PROVENANCE = record(
    {},
    {
        "self_reported": flag,
        "reported_by": text(),
        "badges": listed(_badge, 50),
        "seconds": mapping(number(0, 1e12)),
        "parameters": _COUNT,
        "finished": text(),
        "commit": text(),
        "packages": mapping(text()),
        "python": text(),
        "host": text(),
        "deterministic": flag,
        "cpus": _COUNT,
        **_NUMERICS,
        "training": record({}, _NUMERICS, lambda _: anything()),
        "selection": mapping(anything()),
        "budget": record({}, {"own": _SPENT, "below": _SPENT}),
        "warnings": listed(text(1_000), 100),
        "about": _ABOUT,
        "recipe": listed(record({"name": text(), "clean": text(10_000), "used": text(10_000)}, {}), 1_000),
        "thumbnails": mapping(text(100_000, pattern="[A-Za-z0-9+/=]*"), 100_000, named=_ROW),
        "fit_sha256": text(),
        "pictures": text(),
        "weights": mapping(anything()),
        "leak": mapping(anything()),
        "file": text(),
        "file_sha256": text(),
    },
    _other_fact,
)
CURVES = listed(mapping(number(), 100), 1_000_000)
HEADER = record(
    {
        "format": one_of(FORMAT),
        "id": text(pattern="[0-9a-f]{12}"),
        "digest": text(pattern="[0-9a-f]{64}"),
        "status": one_of("done", "failed"),
        "spec": mapping(anything(is_finite=False)),
        "metrics": listed(text(60), 64),
        "class_names": listed(text(), 1_000_000),
        "class_groups": listed(text(), 1_000_000),
        "provenance": PROVENANCE,
        "curves": CURVES,
        "traceback": _any_text,
    },
    {},
    lambda _: anything(),
)
TRIAL = record(
    {"n_correct": _COUNT, "n_query": _COUNT, "seconds": _COUNT, "finished": text()},
    {"traceback": _any_text},
)
EXTRACTOR = record(
    {"run": text(), "method": text(), "version": text(), "backbone": text(), "seed": _COUNT},
    {},
    lambda _: anything(),
)
FIT = record(
    {"seconds": number(0, 1e12), "curves": CURVES, "selection": mapping(anything())},
    {"fit_sha256": text(pattern="[0-9a-f]{64}"), "imported": text()},
    lambda _: anything(),
)
RECHECK = record(
    {
        "checked": text(),
        "device": text(),
        "seed": _COUNT,
        "n_episodes": whole(1, 1_000_000),
        "n_differing": whole(0, 1_000_000),
    },
    {"n_predictions": _COUNT, "n_other": _COUNT},
)


def find_problem(shape: Shape, value: Mapping[str, Any] | list[Any] | tuple[Any, ...], name: str) -> str:
    """What is wrong with a record; empty when nothing is."""
    try:
        shape(value, name)
    except ValueError as error:
        return str(error)
    return ""
