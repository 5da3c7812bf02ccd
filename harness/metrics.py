"""From scores to counts: the only place where a prediction is compared with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


def predicted(scores: Tensor) -> npt.NDArray[np.int64]:
    """Take the label with the highest score; of equal scores the lowest label wins.

    Args:
        scores: (..., W) float, finite.

    Returns:
        (...) int64 in [0, W).
    """
    return scores.argmax(-1).cpu().numpy()


def n_correct(predictions: npt.NDArray[np.int64], label: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count the right predictions of each episode.

    Args:
        predictions: (E, Q) int in [0, W).
        label: (Q,) or (E, Q) int, the true labels.

    Returns:
        (E,) int64 in [0, Q].

    >>> n_correct(np.array([[0, 1, 1]]), np.array([0, 1, 2]))
    array([2])
    """
    return (predictions == label).sum(axis=1, dtype=np.int64)


def smallest_dtype(n_way: int) -> type[np.uint8] | type[np.uint16]:
    """Choose the type that stores a label: one byte up to 256 ways, two beyond."""
    return np.uint8 if n_way <= 256 else np.uint16
