"""Scores of benchmarks × training seeds as one sample: superiority, interquartile mean, performance profile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.checks import FloatArray, check_level, finite_array
from harness.stats.seeds import MIN_SEEDS


class Superiority(NamedTuple):
    """The chance that one training of X beats one of Y, over benchmarks.

    Attributes:
        probability: in [0, 1]; ties count half.
        low: lower end of the bootstrap interval; None below three seeds.
        high: upper end; None below three seeds.
        is_meaningful: low > 0.5 and probability >= 0.75 (Bouthillier et al. 2021); otherwise inconclusive,
            which is not the same as equal.
    """

    probability: float
    low: float | None
    high: float | None
    is_meaningful: bool


def probability_of_superiority(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Superiority:
    """Average P(X > Y) over benchmarks, resampling seeds within each (Agarwal et al. 2021).

    Args:
        x: (N, S) fractions in [0, 1]: benchmarks × training seeds.
        y: (N, S') fractions in [0, 1], the same benchmarks.
        rng: the only randomness.
        level: confidence, in (0, 1).
        n_resamples: bootstrap resamples.

    Raises:
        ValueError: when benchmarks differ, for NaN, or values outside [0, 1].
    """
    first, second = finite_array(x, "x", 0.0, 1.0), finite_array(y, "y", 0.0, 1.0)
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            f"x and y must have the axes benchmark and seed over the same benchmarks, "
            f"found {first.shape} and {second.shape}"
        )
    excess = first[:, :, None] - second[:, None, :]  # (N, S, S')
    win = (excess > 0) + 0.5 * (excess == 0)
    probability = float(win.mean())
    if min(first.shape[1], second.shape[1]) < MIN_SEEDS:
        return Superiority(probability, None, None, False)
    weight_x = _seed_weights(first.shape, rng, n_resamples)  # (B, N, S)
    weight_y = _seed_weights(second.shape, rng, n_resamples)  # (B, N, S')
    resampled = (np.einsum("bns,nst->bnt", weight_x, win) * weight_y).sum(axis=2).mean(axis=1)  # (B,)
    low, high = _percentile_ends(resampled, level)
    return Superiority(probability, low, high, low > 0.5 and probability >= 0.75)


def _seed_weights(shape: tuple[int, ...], rng: np.random.Generator, n_resamples: int) -> FloatArray:
    """Draw seeds with replacement within each benchmark, as weights that sum to 1: (B, N, S)."""
    n_benchmarks, n_seeds = shape
    drawn = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=(n_resamples, n_benchmarks))
    return np.asarray(drawn / n_seeds)


def _percentile_ends(resampled: FloatArray, level: float) -> tuple[float, float]:
    """Both ends of the percentile interval."""
    tail = (1 - check_level(level)) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


class IqmInterval(NamedTuple):
    """Interquartile mean, a fraction, and its bootstrap interval (None below three seeds)."""

    iqm: float
    low: float | None
    high: float | None


def iqm_interval(
    score: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 2000
) -> IqmInterval:
    """Average the middle half of all benchmark × seed scores (Agarwal et al. 2021).

    A quarter of the scores, rounded down, is cut at either end. Seeds are resampled within benchmarks.

    Args:
        score: (N, S) fractions in [0, 1]: benchmarks × training seeds.
        rng: the only randomness.
        level: confidence, in (0, 1).
        n_resamples: bootstrap resamples.

    Raises:
        ValueError: for NaN, values outside [0, 1], or another number of axes.
    """
    table = finite_array(score, "scores", 0.0, 1.0)
    if table.ndim != 2:
        raise ValueError(f"scores must have the axes benchmark and seed, found shape {table.shape}")
    n_benchmarks, n_seeds = table.shape
    cut = table.size // 4
    middle = slice(cut, table.size - cut)
    iqm = float(np.sort(table, axis=None)[middle].mean())
    if n_seeds < MIN_SEEDS:
        return IqmInterval(iqm, None, None)
    drawn = rng.integers(0, n_seeds, size=(n_resamples, n_benchmarks, n_seeds))
    resampled = np.take_along_axis(table[None], drawn, axis=2).reshape(n_resamples, -1)  # (B, N S)
    resampled.sort(axis=1)
    return IqmInterval(iqm, *_percentile_ends(resampled[:, middle].mean(axis=1), level))


def performance_profile(score: npt.ArrayLike, threshold: npt.ArrayLike) -> FloatArray:
    """Give the share of scores above each threshold (Agarwal et al. 2021).

    Args:
        score: fractions in [0, 1] of one method, any shape (benchmarks × seeds).
        threshold: (K,) fractions in [0, 1].

    Returns:
        (K,) float64 shares in [0, 1].

    Raises:
        ValueError: for empty input, NaN, or values outside [0, 1].

    >>> performance_profile([0.2, 0.4, 0.6, 0.8], [0.0, 0.4, 0.9]).tolist()
    [1.0, 0.5, 0.0]
    """
    values = np.sort(finite_array(score, "scores", 0.0, 1.0), axis=None)
    limits = finite_array(threshold, "threshold", 0.0, 1.0)
    return np.asarray(1 - np.searchsorted(values, limits, side="right") / values.size)
