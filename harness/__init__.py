"""fsbench: fixed episodes, per-episode results and paired statistics for few-shot image classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.benchmarks.loaded import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import what is for users when it is asked for: ``import harness`` alone costs nothing."""
    if name == "load":
        from harness.benchmarks.loaded import load

        return load
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
