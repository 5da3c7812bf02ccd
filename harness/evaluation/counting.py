"""From scores to counts: the only place where a prediction is compared with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
        label: (Q,) or (E, Q) int, the true labels; -1 at a place without a query, where nothing is right.

    Returns:
        (E,) int64 in [0, Q].

    >>> n_correct(np.array([[0, 1, 1]]), np.array([0, 1, 2]))
    array([2])
    """
    return (predictions == label).sum(axis=1, dtype=np.int64)


def smallest_dtype(n_way: int) -> type[np.uint8] | type[np.uint16]:
    """Choose the type that stores a label: one byte up to 256 ways, two beyond."""
    return np.uint8 if n_way <= 256 else np.uint16


def counted(scores: Tensor, label: Tensor, k: int) -> Tensor:
    """The label that counts when any of the k highest scores may be right.

    It is the true label where that is among the first k of all labels, else the label ranked first, so that
    comparing it with the truth counts top-k hits as ``predicted`` does for k = 1. Of equal scores the lowest label
    comes first.

    Args:
        scores: (n, W) float, finite; labels without support compete like any other.
        label: (n,) int64 in [0, W).
        k: ≥ 1.

    Returns:
        (n,) int64 in [0, W).

    >>> import torch
    >>> counted(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]), 2)
    tensor([1, 0])
    """
    import torch  # the command line reads counts without it

    own = scores.gather(1, label[:, None])  # (n, 1)
    columns = torch.arange(scores.shape[1], device=scores.device)  # (W,)
    before = (scores > own) | ((scores == own) & (columns < label[:, None]))
    return label.where(before.sum(1) < k, scores.argmax(1))


class GroupCounts(NamedTuple):
    """``n_correct`` and ``n_query`` of one metric, (E,) int64 each."""

    n_correct: npt.NDArray[np.int64]
    n_query: npt.NDArray[np.int64]


GROUPS = ("novel", "base", "all")
TOPS = (1, 5)


def joint_counts(
    given: npt.NDArray[np.int64], label: npt.NDArray[np.int64], n_base: int
) -> dict[str, GroupCounts]:
    """Count the six numbers of the joint protocol: top-1 and top-5 over queries of novel, of base and of all classes.

    Shares are over examples, as Hariharan and Girshick's evaluation has them, so "all" weighs a group by its queries.

    Args:
        given: (E, 2, n_query) int, the labels counted for top-1 and top-5 (``counted``).
        label: (n_query,) int, the true labels.
        n_base: labels below it are base classes.

    Returns:
        Six counts by name, "top1/novel" to "top5/all", in the order of the published tables.
    """
    right = given == label  # (E, 2, n_query)
    inside = {"novel": label >= n_base, "base": label < n_base, "all": np.ones(len(label), dtype=bool)}
    return {
        f"top{k}/{group}": GroupCounts(
            right[:, i, inside[group]].sum(axis=1, dtype=np.int64),
            np.full(len(given), inside[group].sum(), dtype=np.int64),
        )
        for group in GROUPS
        for i, k in enumerate(TOPS)
    }
