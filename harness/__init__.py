"""fsbench: fixed episodes, per-episode results and paired statistics for few-shot image classification.

From Python and notebooks: ``load`` gives a benchmark's episodes and images; ``run``, ``results``, ``episodes`` and
``compare`` are the commands of these names, with tables of pandas for answers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.benchmarks.loaded import load
    from harness.notebook import compare, episodes, results, run

__all__ = ["compare", "episodes", "load", "results", "run"]


def __getattr__(name: str) -> Any:
    """Import what is for users when it is asked for: ``import harness`` alone costs nothing."""
    if name in __all__:
        place = "harness.benchmarks.loaded" if name == "load" else "harness.notebook"
        return getattr(import_module(place), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
