"""Many methods on one episode list: all paired tests at once, Holm, and ranks with the room they leave."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.checks import NO_SPREAD, FloatArray, IntArray, finite_array, seed_matrix
from harness.stats.paired import MARGIN, difference_error
from harness.stats.seeds import MIN_SEEDS
from harness.stats.significance import equivalence_p, t_value, two_sided_p

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AllPairs:
    """Every method against every other, row minus column; all arrays (M, M).

    Attributes:
        difference: float64, fractions in [-1, 1]; over the common seeds where ``is_crossed``.
        standard_error: float64, fractions; 0 where the differences do not vary, and on the diagonal.
        df: float64, degrees of freedom of the error.
        t: float64; ± inf for a constant difference, 0 for a constant zero.
        p: float64, two-sided; 1 on the diagonal.
        p_holm: float64, ``p`` after Holm over the M (M-1) / 2 pairs.
        p_equivalence: float64, the larger one-sided p against ± ``margin``.
        is_crossed: bool, True where the error includes three training seeds or more.
        margin: a fraction.
        n_episodes: T.
    """

    difference: FloatArray
    standard_error: FloatArray
    df: FloatArray
    t: FloatArray
    p: FloatArray
    p_holm: FloatArray
    p_equivalence: FloatArray
    is_crossed: BoolArray
    margin: float
    n_episodes: int

    def is_better(self, alpha: float = 0.05) -> BoolArray:
        """(M, M) bool: the row is significantly better than the column after Holm."""
        return np.asarray((self.p_holm < alpha) & (self.difference > 0))

    def verdicts(self, alpha: float = 0.05) -> npt.NDArray[np.str_]:
        """(M, M) words on the row: better, worse, tied or undecided; the diagonal is tied."""
        better, tied = self.is_better(alpha), self.p_equivalence < alpha
        np.fill_diagonal(tied, True)
        return np.select([better, better.T, tied], ["better", "worse", "tied"], "undecided")


def all_pairs(
    accuracy: Sequence[npt.ArrayLike] | FloatArray,
    seeds: Sequence[Sequence[int]] | None = None,
    margin: float = MARGIN,
) -> AllPairs:
    """Compare every method with every other on one episode list.

    One matrix product gives the paired error of all pairs: var(a - b) = var(a) + var(b) - 2 cov(a, b), each
    method averaged over its seeds. Pairs with three common seeds or more get the crossed error instead.
    Agrees with ``compare`` pair by pair.

    Args:
        accuracy: M arrays of (T,) or (S_m, T) fractions in [0, 1], the same T episodes in each.
        seeds: for each method the seeds of its rows; by default 0, 1, ….
        margin: differences within ± margin count as tied, a fraction.

    Raises:
        ValueError: when methods differ in T, seeds do not fit the rows, for NaN or values outside [0, 1].
    """
    runs = [seed_matrix(a, f"accuracy of method {i}") for i, a in enumerate(accuracy)]
    names = _seed_rows(runs, seeds)
    means = np.array([run.mean(axis=0) for run in runs])  # (M, T)
    n_methods, n_episodes = means.shape
    difference = np.subtract.outer(means.mean(axis=1), means.mean(axis=1))
    error = _paired_errors(means)
    df = np.full((n_methods, n_methods), float(n_episodes - 1))
    is_crossed = np.zeros((n_methods, n_methods), dtype=bool)
    for i, j, d in _seed_paired(runs, names):
        part = difference_error(d)
        difference[i, j], difference[j, i] = d.mean(), -d.mean()
        error[i, j] = error[j, i] = part.standard_error or 0.0
        df[i, j] = df[j, i] = part.df
        is_crossed[i, j] = is_crossed[j, i] = True
    n = np.array(n_episodes)
    p = two_sided_p(difference, error, df, n)
    np.fill_diagonal(p, 1.0)
    p_holm, upper = np.ones_like(p), np.triu_indices(n_methods, 1)
    p_holm[upper] = p_holm.T[upper] = holm(p[upper]) if len(upper[0]) else []
    return AllPairs(
        difference=difference,
        standard_error=error,
        df=df,
        t=t_value(difference, error),
        p=p,
        p_holm=p_holm,
        p_equivalence=equivalence_p(difference, error, df, n, margin),
        is_crossed=is_crossed,
        margin=margin,
        n_episodes=n_episodes,
    )


def _seed_rows(runs: list[FloatArray], seeds: Sequence[Sequence[int]] | None) -> list[dict[int, int]]:
    """Map, for each method, a seed to its row; refuse lists that do not fit together."""
    if not runs:
        raise ValueError("all_pairs needs at least one method, found none")
    lengths = sorted({run.shape[1] for run in runs})
    if len(lengths) > 1:
        raise ValueError(f"methods differ in episodes: {lengths}; keep the common prefix of the episode list")
    given = [range(len(run)) for run in runs] if seeds is None else seeds
    if len(given) != len(runs):
        raise ValueError(f"seeds must name the rows of {len(runs)} methods, found {len(given)} lists")
    for i, (run, row_seeds) in enumerate(zip(runs, given, strict=True)):
        if len(row_seeds) != len(run) or len(set(row_seeds)) != len(run):
            raise ValueError(f"method {i} has {len(run)} rows, but its seeds are {list(row_seeds)}")
    return [{seed: row for row, seed in enumerate(row_seeds)} for row_seeds in given]


def _seed_paired(
    runs: list[FloatArray], names: list[dict[int, int]]
) -> Iterator[tuple[int, int, FloatArray]]:
    """Yield the pairs with enough common seeds, each with its (S, T) difference over them."""
    for i, j in itertools.combinations(range(len(runs)), 2):
        common = sorted(names[i].keys() & names[j].keys())
        if len(common) >= MIN_SEEDS:
            yield i, j, runs[i][[names[i][s] for s in common]] - runs[j][[names[j][s] for s in common]]


def _paired_errors(means: FloatArray) -> FloatArray:
    """Standard errors of all paired differences of (M, T) accuracies: (M, M)."""
    n_episodes = means.shape[1]
    centred = means - means.mean(axis=1, keepdims=True)
    gram = centred @ centred.T / max(1, n_episodes - 1)  # (M, M)
    variance = np.maximum(0.0, np.diag(gram)[:, None] + np.diag(gram) - 2 * gram)
    variance[variance < NO_SPREAD**2] = 0.0
    return np.asarray(np.sqrt(variance / n_episodes))


def holm(p: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for their number, step down (Holm 1979): reject where the result is below alpha.

    Args:
        p: (m,) p-values in [0, 1].

    Returns:
        (m,) float64 adjusted p in [0, 1], in the order given.

    Raises:
        ValueError: for empty input, NaN, or values outside [0, 1].

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = finite_array(p, "p", 0.0, 1.0).ravel()
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, raised)
    return adjusted


class RankInterval(NamedTuple):
    """Ranks a method may have, 1 the best: (M,) int64 ``low`` and ``high``."""

    low: IntArray
    high: IntArray


def rank_intervals(is_better: npt.ArrayLike) -> RankInterval:
    """Bound the rank of each method: [1 + methods significantly better, M - methods significantly worse].

    Args:
        is_better: (M, M) bool, the row significantly better than the column, after Holm.

    Raises:
        ValueError: for another shape, or a pair where each is better than the other.

    >>> rank_intervals([[False, False, True], [False, False, True], [False, False, False]]).high.tolist()
    [2, 2, 3]
    """
    better = _dominance(is_better)
    return RankInterval(1 + better.sum(axis=0), len(better) - better.sum(axis=1))


def tie_groups(mean: npt.ArrayLike, is_better: npt.ArrayLike) -> IntArray:
    """Number the groups of methods that nothing tells from the best of their group, 1 the top group.

    Going down from the best mean, a group ends at the first method that its leader significantly beats; that
    method leads the next group. Group 1 is what a table may print in bold.

    Args:
        mean: (M,) mean accuracies.
        is_better: (M, M) bool, the row significantly better than the column, after Holm.

    Returns:
        (M,) int64 group numbers from 1, in the order given.

    Raises:
        ValueError: when the shapes do not fit, for NaN, or a pair where each is better than the other.

    >>> tie_groups([0.7, 0.5, 0.69], [[False, True, False], [False] * 3, [False, True, False]]).tolist()
    [1, 2, 1]
    """
    better = _dominance(is_better)
    values = finite_array(mean, "mean", -1.0, 1.0)
    if values.shape != (len(better),):
        raise ValueError(f"mean must have shape ({len(better)},), found {values.shape}")
    group = np.zeros(len(values), dtype=np.int64)
    order = np.argsort(-values, kind="stable")
    leader, number = order[0], 1
    for method in order:
        if better[leader, method]:
            leader, number = method, number + 1
        group[method] = number
    return group


def _dominance(is_better: npt.ArrayLike) -> BoolArray:
    """Check an (M, M) relation that no pair satisfies both ways."""
    better = np.asarray(is_better, dtype=bool)
    if better.ndim != 2 or better.shape[0] != better.shape[1] or not better.size:
        raise ValueError(f"is_better must be a square matrix, found shape {better.shape}")
    if (better & better.T).any():
        raise ValueError("is_better says of some pair that each method is better than the other")
    return better
