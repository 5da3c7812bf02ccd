"""What a method may return, and what it may not change."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.errors import PluginError


def check_scores(scores: Any, shape: tuple[int, ...], where: str) -> None:
    """Refuse what is not a finite float tensor of the right shape.

    Raises:
        PluginError: saying what was returned, and where.
    """
    if not isinstance(scores, Tensor):
        raise PluginError(
            f"{where} returned {type(scores).__name__}; expected a float tensor of shape {shape}."
        )
    if tuple(scores.shape) != shape:
        hint = " (one column per class of the episode)" if scores.shape[:-1] == shape[:-1] else ""
        raise PluginError(f"{where} returned scores of shape {tuple(scores.shape)}; expected {shape}{hint}.")
    if not scores.is_floating_point():
        raise PluginError(
            f"{where} returned {scores.dtype} scores; expected floating point, higher is likelier."
        )
    if not bool(scores.isfinite().all()):
        bad = int((~scores.isfinite()).sum())
        raise PluginError(f"{where} returned {bad} scores that are NaN or infinite.")


def check_unchanged(method: Any, given: Tensor, version: int, name: str) -> None:
    """Refuse a method that changed what it was given in place; torch counts every such change.

    Raises:
        PluginError: naming what was changed.
    """
    if given._version != version:
        raise PluginError(
            f"{type(method).__name__} changed its {name} in place; work on a copy (x = x.clone())."
        )
