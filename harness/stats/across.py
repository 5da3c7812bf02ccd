"""Many benchmarks: only complete tables, and counts of verdicts before means of ranks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from harness.stats.checks import DECIMALS, FloatArray, IntArray, check_level, finite_array
from harness.stats.significance import holm

LEAST_DATA_SETS = 6  # two-sided signed ranks of five cannot be below 0.0625


class Submatrix(NamedTuple):
    """Rows (methods) and columns (benchmarks) kept, as sorted (m,) and (n,) int64 positions."""

    method: IntArray
    benchmark: IntArray


def complete_submatrix(score: npt.ArrayLike) -> Submatrix:
    """Keep methods and benchmarks that leave no hole, dropping what misses most until none is left.

    Step by step the method or benchmark with the largest share of holes goes (a method before a benchmark, a
    later before an earlier one, where shares are equal). Averages over benchmarks are made on the result only,
    and its size is shown.

    Args:
        score: (M, N) scores, NaN where a method has no result.

    Raises:
        ValueError: for another number of axes.

    >>> complete_submatrix([[0.5, 0.6], [0.4, float("nan")], [0.3, 0.2]]).method.tolist()
    [0, 2]
    """
    table = np.asarray(score, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"scores must have the axes method and benchmark, found shape {table.shape}")
    hole = np.isnan(table)
    row, column = np.arange(table.shape[0]), np.arange(table.shape[1])
    while (left := hole[np.ix_(row, column)]).any():
        by_row, by_column = left.mean(axis=1), left.mean(axis=0)
        if by_row.max() >= by_column.max():
            row = np.delete(row, len(row) - 1 - np.argmax(by_row[::-1]))
        else:
            column = np.delete(column, len(column) - 1 - np.argmax(by_column[::-1]))
    return Submatrix(row, column)


class WinTieLoss(NamedTuple):
    """Benchmarks on which the row wins, ties, loses against the column, or nothing is decided: (M, M) int64."""

    win: IntArray
    tie: IntArray
    loss: IntArray
    undecided: IntArray


def win_tie_loss(verdicts: npt.ArrayLike) -> WinTieLoss:
    """Count paired verdicts over benchmarks.

    Args:
        verdicts: (N, M, M) words "better", "worse", "tied", "undecided" on the row, one matrix a benchmark
            (``Pairs.words``).

    Raises:
        ValueError: for another shape or another word.
    """
    words = np.asarray(verdicts)
    if words.ndim != 3 or words.shape[1] != words.shape[2]:
        raise ValueError(f"verdicts must have shape (benchmarks, methods, methods), found {words.shape}")
    known = ("better", "tied", "worse", "undecided")
    strange = sorted(set(np.unique(words).tolist()) - set(known))
    if strange:
        raise ValueError(f"unknown verdicts {strange}; known: {', '.join(known)}")
    return WinTieLoss(*((words == word).sum(axis=0) for word in known))


def wilcoxon_pairs(score: npt.ArrayLike) -> FloatArray | None:
    """Test all pairs of methods over data sets, for data sets that nobody has tried (s.7).

    Wilcoxon's signed ranks, exact without ties, with Holm's correction over the pairs.

    Args:
        score: (M, N) fractions in [0, 1], one column for each independent data set.

    Returns:
        (M, M) float64 p, 1 on the diagonal; None below six data sets, where no p could reach 0.05.

    Raises:
        ValueError: for NaN, values outside [0, 1], or another number of axes.
    """
    table = np.round(finite_array(score, "scores", 0.0, 1.0), DECIMALS)
    if table.ndim != 2:
        raise ValueError(f"scores must have the axes method and data set, found shape {table.shape}")
    n_methods, n_sets = table.shape
    if n_sets < LEAST_DATA_SETS:
        return None
    i, j = np.triu_indices(n_methods, 1)
    p = np.array([_signed_ranks(table[a] - table[b]) for a, b in zip(i, j, strict=True)])
    square = np.ones((n_methods, n_methods))
    square[i, j] = square[j, i] = holm(p) if len(p) else p
    return square


def _signed_ranks(difference: FloatArray) -> float:
    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


class MeanRanks(NamedTuple):
    """Ranks of M methods over N benchmarks, 1 the best: (M, N) and (M,) float64, ties shared."""

    rank: FloatArray
    mean: FloatArray


def mean_ranks(score: npt.ArrayLike) -> MeanRanks:
    """Rank methods within each benchmark, higher scores first, and average.

    Args:
        score: (M, N) fractions in [0, 1], no holes (see ``complete_submatrix``).

    Raises:
        ValueError: for NaN, values outside [0, 1], or another number of axes.

    >>> mean_ranks([[0.9, 0.5], [0.8, 0.5]]).mean.tolist()
    [1.25, 1.75]
    """
    table = finite_array(score, "scores", 0.0, 1.0)
    if table.ndim != 2:
        raise ValueError(f"scores must have the axes method and benchmark, found shape {table.shape}")
    rank = stats.rankdata(-table, axis=0)
    return MeanRanks(rank, rank.mean(axis=1))


class Friedman(NamedTuple):
    """Do k methods differ over N benchmarks, and by how much must two mean ranks differ (Demsar 2006).

    Attributes:
        chi2: Friedman's statistic, corrected for ties.
        f: Iman and Davenport's statistic; inf when all benchmarks agree.
        p: of ``f``; k!^(1-N), exact, when all benchmarks agree; 1 when all methods tie everywhere.
        critical_difference: Nemenyi's, in ranks.
        note: N, k, and "low power" where that difference is more than a quarter of the possible ranks.
    """

    chi2: float
    f: float
    p: float
    critical_difference: float
    note: str


def friedman(score: npt.ArrayLike, alpha: float = 0.05) -> Friedman:
    """Test whether mean ranks differ at all, and give Nemenyi's critical difference.

    Args:
        score: (M, N) fractions in [0, 1], M >= 3 methods, N >= 2 benchmarks, no holes.
        alpha: size of the test, in (0, 1).

    Raises:
        ValueError: for fewer methods or benchmarks, NaN, or values outside [0, 1].
    """
    rank = mean_ranks(score).rank
    k, n = rank.shape
    if k < 3 or n < 2:
        raise ValueError(f"mean ranks need three methods on two benchmarks, found {k} on {n}")
    critical = float(stats.studentized_range.ppf(1 - check_level(alpha), k, np.inf)) / math.sqrt(2)
    critical *= math.sqrt(k * (k + 1) / (6 * n))
    low = "low power: " if critical > (k - 1) / 4 else ""
    note = f"N={n}, {low}two of {k} methods must differ by {critical:.1f} of {k - 1} possible ranks"
    spread = rank.var(axis=0).sum()  # what ties leave of n (k^2 - 1) / 12
    if spread == 0:
        return Friedman(0.0, 0.0, 1.0, critical, note)
    chi2 = (k - 1) * n**2 * rank.mean(axis=1).var() / spread
    if math.isclose(chi2, n * (k - 1), rel_tol=1e-12):
        return Friedman(float(chi2), math.inf, math.factorial(k) ** (1.0 - n), critical, note)
    f = (n - 1) * chi2 / (n * (k - 1) - chi2)
    p = float(special.fdtrc(k - 1, (k - 1) * (n - 1), f))
    return Friedman(float(chi2), float(f), p, critical, note)


def performance_profile(score: npt.ArrayLike, threshold: npt.ArrayLike) -> FloatArray:
    """Give the share of scores above each threshold (Agarwal et al. 2021), a description.

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
