"""A run as data: its specification, plan, result, folder and findings.

Nothing is trained, evaluated or stored in a database here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.method.hyper import ConfigValue
    from harness.method.registry import MethodReference
    from harness.runs.result import (
        FIT_SHA256,
        FORMAT,
        REPORTED_BY,
        SELF_REPORTED,
        THUMBNAILS,
        Counts,
        EpisodeTable,
        RunResult,
    )
    from harness.runs.spec import FitSpec, Precision, RunSpec

__all__ = [
    "FIT_SHA256",
    "FORMAT",
    "REPORTED_BY",
    "SELF_REPORTED",
    "THUMBNAILS",
    "ConfigValue",
    "Counts",
    "EpisodeTable",
    "FitSpec",
    "MethodReference",
    "Precision",
    "RunResult",
    "RunSpec",
]
_SPEC = {
    "ConfigValue",
    "FitSpec",
    "MethodReference",
    "Precision",
    "RunSpec",
}  # the others are arrays and need numpy


def __getattr__(name: str) -> Any:
    """Hand a name on when it is asked for: the words of the command line need specifications, and no arrays."""
    if name not in __all__:
        raise AttributeError(f"module 'harness.runs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"harness.runs.{'spec' if name in _SPEC else 'result'}"), name)
