"""What stored predictions tell: which classes, which confusions, which episodes, whose errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.checks import FloatArray, IntArray, class_ids, vector


class ClassAccuracy(NamedTuple):
    """Counts per class over all episodes, (C,) each; classes that never occur are absent.

    Attributes:
        class_id: int64, sorted.
        n_query: int64, queries of the class.
        n_correct: int64, those predicted right.
        accuracy: float64, fractions in [0, 1].
    """

    class_id: IntArray
    n_query: IntArray
    n_correct: IntArray
    accuracy: FloatArray


def class_accuracy(prediction: npt.ArrayLike, label: npt.ArrayLike, classes: npt.ArrayLike) -> ClassAccuracy:
    """Count right answers by true class.

    Args:
        prediction: (E, n_query) int in [0, W), predicted labels.
        label: (n_query,) or (E, n_query) int in [0, W), true labels; -1 at a place without a query.
        classes: (E, W) int, the class behind each label.

    Raises:
        ValueError: when shapes do not fit or a label is outside [0, W).
    """
    pairs = confusion(prediction, label, classes)
    n_query, n_correct = pairs.counts.sum(axis=1), np.diag(pairs.counts)
    asked = n_query > 0
    return ClassAccuracy(
        pairs.class_id[asked], n_query[asked], n_correct[asked], n_correct[asked] / n_query[asked]
    )


class Confusion(NamedTuple):
    """``class_id`` (C,) int64, sorted, and ``counts`` (C, C) int64: row the true class, column the predicted one."""

    class_id: IntArray
    counts: IntArray


def confusion(prediction: npt.ArrayLike, label: npt.ArrayLike, classes: npt.ArrayLike) -> Confusion:
    """Count true against predicted classes over all episodes.

    Two classes can only be confused in episodes that hold both, so compare rows, not cells.

    Args:
        prediction: (E, n_query) int in [0, W), predicted labels.
        label: (n_query,) or (E, n_query) int in [0, W), true labels; -1 at a place without a query.
        classes: (E, W) int, the class behind each label.

    Raises:
        ValueError: when shapes do not fit or a label is outside [0, W).
    """
    predicted, true = _labels(prediction, label)
    of_label = class_ids(classes, len(predicted))
    n_way = of_label.shape[1]
    if max(predicted.max(), true.max()) >= n_way:
        raise ValueError(
            f"labels must lie in [0, {n_way}), found {max(predicted.max(), true.max())}: "
            "predictions and classes belong to different episode lists"
        )
    class_id, position = np.unique(of_label, return_inverse=True)
    position, n = position.reshape(of_label.shape), len(class_id)
    row, column = (
        np.take_along_axis(position, labels, axis=1) for labels in (true, predicted)
    )  # (E, n_query)
    pairs = (row * n + column)[true >= 0]
    return Confusion(class_id, np.bincount(pairs, minlength=n * n).reshape(n, n))


class WorstEpisodes(NamedTuple):
    """The bad end of a list, fractions in [0, 1].

    Attributes:
        mean_worst_10: mean of the worst 10% of episodes (rounded up, so at least one).
        mean_worst_1: mean of the worst 1%.
        three_sigma: mean - 3 standard deviations over episodes, may be negative; None for one episode.
    """

    mean_worst_10: float
    mean_worst_1: float
    three_sigma: float | None


def worst_episodes(accuracy: npt.ArrayLike) -> WorstEpisodes:
    """Describe the episodes that go worst (Fu et al. 2022).

    Args:
        accuracy: (T,) fractions in [0, 1].

    Raises:
        ValueError: for empty input, NaN, or values outside [0, 1].
    """
    values = np.sort(vector(accuracy))
    tenth, hundredth = (float(values[: math.ceil(len(values) / part)].mean()) for part in (10, 100))
    sigma = float(values.std(ddof=1)) if len(values) > 1 else None
    return WorstEpisodes(tenth, hundredth, None if sigma is None else float(values.mean()) - 3 * sigma)


class ErrorOverlap(NamedTuple):
    """Do two methods fail on the same queries. Counts of queries over all episodes.

    Attributes:
        both_right: right by both.
        only_a_wrong: wrong by the first alone.
        only_b_wrong: wrong by the second alone.
        both_wrong: wrong by both.
        same_wrong: of ``both_wrong``, those with the same wrong answer.
        jaccard: both_wrong / queries that any gets wrong, in [0, 1]; None when there is no error.
        kappa: Cohen's kappa of being wrong, 1 the same errors, 0 unrelated; None where a side is always
            right or always wrong.
        either_right: share of queries that at least one gets right, in [0, 1].
    """

    both_right: int
    only_a_wrong: int
    only_b_wrong: int
    both_wrong: int
    same_wrong: int
    jaccard: float | None
    kappa: float | None
    either_right: float


def error_overlap(a: npt.ArrayLike, b: npt.ArrayLike, label: npt.ArrayLike) -> ErrorOverlap:
    """Compare the errors of two methods query by query.

    Args:
        a: (E, n_query) int, predicted labels of the first method.
        b: (E, n_query) int, those of the second on the same episodes.
        label: (n_query,) or (E, n_query) int, true labels; -1 at a place without a query.

    Raises:
        ValueError: when shapes do not fit.
    """
    first, true = _labels(a, label)
    second, _ = _labels(b, label)
    if first.shape != second.shape:
        raise ValueError(f"both methods need the same queries, found {first.shape} and {second.shape}")
    asked = true >= 0
    first, second, true = first[asked], second[asked], true[asked]
    wrong_a, wrong_b = first != true, second != true
    n, n_a, n_b = first.size, int(wrong_a.sum()), int(wrong_b.sum())
    both = int((wrong_a & wrong_b).sum())
    any_wrong = n_a + n_b - both
    agree = (n - any_wrong + both) / n
    chance = (n_a * n_b + (n - n_a) * (n - n_b)) / n**2
    varies = 0 < n_a < n and 0 < n_b < n
    return ErrorOverlap(
        both_right=n - any_wrong,
        only_a_wrong=n_a - both,
        only_b_wrong=n_b - both,
        both_wrong=both,
        same_wrong=int((wrong_a & (first == second)).sum()),
        jaccard=both / any_wrong if any_wrong else None,
        kappa=(agree - chance) / (1 - chance) if varies else None,
        either_right=1 - both / n,
    )


def _labels(prediction: npt.ArrayLike, label: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Check (E, n_query) predictions and true labels for each or for all episodes; both become (E, n_query)."""
    predicted, true = np.asarray(prediction), np.asarray(label)
    if predicted.ndim != 2 or true.shape not in (predicted.shape, predicted.shape[1:]) or not predicted.size:
        raise ValueError(
            f"predictions must have shape (episodes, {true.shape[-1]}) to fit the labels {true.shape}, found {predicted.shape}"
        )
    for name, array, least in (("predictions", predicted, 0), ("labels", true, -1)):
        if not np.issubdtype(array.dtype, np.integer) or array.min() < least:
            raise ValueError(f"{name} must be non-negative integers, found {array.dtype}")
    if true.max() < 0:
        raise ValueError("no place has a query")
    return predicted.astype(np.int64), np.broadcast_to(true.astype(np.int64), predicted.shape)
