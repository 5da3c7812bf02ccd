"""Intervals that speak for classes nobody has tested yet."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats.checks import FloatArray, IntArray, check_level, class_ids, finite_array, vector
from harness.stats.headline import SeedPart, score_ends
from harness.stats.intervals import Interval, student_interval, undefined_interval


def class_interval(
    values: npt.ArrayLike,
    classes: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    seed: SeedPart | None = None,
) -> Interval:
    """Say how far the mean would move with other classes and trainings, by the delete-one-class jackknife.

    The mean over episodes is an incomplete U-statistic of order W over the C classes (Arvesen 1969). With A(-c) the mean of
    the episodes without class c, the jackknife variance is (C-1)/C sum_c (A(-c) - m)^2. The finite number of
    episodes inflates each of its terms by f^2 (s_c^2/n_c + s_-c^2/n_-c), f = n_c/E: that is subtracted, and
    the sampler variance s^2/E enters once, so the class interval is never below the sampler's. With many
    episodes both corrections vanish.

    Args:
        values: (E,) accuracies in [0, 1], or paired differences in [-1, 1]; several seeds averaged first.
        classes: (E, W) int, the classes of each episode.
        clusters: (n,) int, the cluster of class number c at position c, where classes are not independent:
            rotations of one Omniglot character, tieredImageNet classes of one super-category. Clusters are
            then deleted instead of classes.
        level: confidence, in (0, 1).
        seed: what other trainings add (s.3): SE^2 = jackknife^2 + seed part with Satterthwaite's degrees of freedom,
            as a score interval, which stays in [0, 1]. Without it Student's interval, about these trained models.

    Returns:
        An interval of kind "class", ``n`` the number of classes (clusters) seen. Undefined, with its reason,
        when some class is in every episode (always so when C == W).

    Raises:
        ValueError: for NaN, values out of range, or classes that do not fit the episodes.
    """
    accuracy = vector(values, "values", -1.0, 1.0)
    unit = _units(class_ids(classes, len(accuracy)), clusters)
    mean = float(accuracy.mean())
    inside = _deletions(accuracy - mean, unit)
    n, n_episodes = len(inside.n), len(accuracy)
    name = "class" if clusters is None else "cluster"
    if n < 2 or (inside.n == n_episodes).any():
        return undefined_interval(
            mean, "class", n, f"a {name} of the {n} is in every episode, so it cannot be left out"
        )
    jackknife = (n - 1) / n * float((inside.shift**2 - inside.monte_carlo).sum())
    variance = max(0.0, jackknife) + float(accuracy.var(ddof=1)) / n_episodes
    if seed is None:
        return student_interval(mean, math.sqrt(variance), n - 1, "class", n, level)
    total = variance + seed.variance
    df = total**2 / (variance**2 / (n - 1) + seed.variance**2 / seed.df) if total else n - 1.0
    t = float(special.stdtrit(df, (1 + check_level(level)) / 2))
    low, high = score_ends(np.array(mean), np.array(t**2 * total / seed.shape))
    return Interval(mean, float(low), float(high), math.sqrt(total), "class", n)


def joint_interval(
    accuracy: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 2000
) -> Interval:
    """Give the interval of the joint protocol, where every class is in every experiment.

    No class can be left out there, so experiments and classes are resampled instead, independently of each
    other: a class drawn twice counts twice in every experiment, which keeps its effect (percentile interval).

    Args:
        accuracy: (X, C) accuracies in [0, 1], or differences in [-1, 1]: experiments × classes.
        rng: the only randomness.
        level: confidence, in (0, 1).
        n_resamples: bootstrap resamples.

    Raises:
        ValueError: for NaN, values out of range, or another number of axes.
    """
    table = finite_array(accuracy, "accuracy", -1.0, 1.0)
    if table.ndim != 2:
        raise ValueError(f"accuracy must have the axes experiment and class, found shape {table.shape}")
    n_experiments, n_classes = table.shape
    mean = float(table.mean())
    if n_classes == 1:
        return undefined_interval(mean, "joint", 1, "one class has no spread")
    rows = rng.multinomial(n_experiments, np.full(n_experiments, 1 / n_experiments), size=n_resamples)
    columns = rng.multinomial(n_classes, np.full(n_classes, 1 / n_classes), size=n_resamples)
    means = ((rows @ table) * columns).sum(axis=1) / table.size  # (n_resamples,)
    tail = (1 - check_level(level)) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    note = "one experiment: other draws of the shots are not covered" if n_experiments == 1 else ""
    return Interval(mean, float(low), float(high), float(means.std(ddof=1)), "joint", n_classes, note)


class _Deletions(NamedTuple):
    """For each unit: episodes holding it, move of the mean without it, Monte Carlo variance of that move."""

    n: IntArray
    shift: FloatArray
    monte_carlo: FloatArray


def _units(classes: IntArray, clusters: npt.ArrayLike | None) -> IntArray:
    """Number the units to delete from 0: (E, W) int, classes or their clusters."""
    if clusters is not None:
        table = np.asarray(clusters)
        if table.ndim != 1 or len(table) <= classes.max() or not np.issubdtype(table.dtype, np.integer):
            raise ValueError(
                f"clusters must give one integer for each class up to {classes.max()}, "
                f"found shape {table.shape} of {table.dtype}"
            )
        classes = table[classes]
    return np.unique(classes, return_inverse=True)[1].reshape(classes.shape)


def _deletions(centred: FloatArray, unit: IntArray) -> _Deletions:
    """Leave each unit out of (E,) values with mean zero, given the (E, W) units of each episode."""
    ordered = np.sort(unit, axis=1)
    first = np.ones(unit.shape, dtype=bool)  # a cluster met twice in an episode counts once
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    member = ordered[first]
    repeated = np.broadcast_to(centred[:, None], unit.shape)[first]
    n: IntArray = np.bincount(member)
    total = np.asarray(np.bincount(member, repeated), dtype=np.float64)
    square = np.asarray(np.bincount(member, repeated**2), dtype=np.float64)
    n_other, square_other = len(centred) - n, (centred**2).sum() - square
    pooled = float((centred**2).sum()) / max(1, len(centred) - 1)
    with_unit = _mean_variance(n, total, square, pooled)
    without = _mean_variance(n_other, -total, square_other, pooled)
    share = n / len(centred)
    return _Deletions(n, -total / np.maximum(n_other, 1), share**2 * (with_unit + without))


def _mean_variance(n: IntArray, total: FloatArray, square: FloatArray, pooled: float) -> FloatArray:
    """Variance of the mean of n values from their sums; one value borrows the variance of all episodes."""
    size = np.maximum(n, 1)
    variance = np.maximum(0.0, square - total**2 / size) / np.maximum(n - 1, 1)
    return np.asarray(np.where(n > 1, variance, pooled) / size)
