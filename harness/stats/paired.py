"""Two methods on the same episodes: the difference, how sure it is, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats.checks import NO_SPREAD, FloatArray, paired_difference, vector
from harness.stats.intervals import Interval, student_interval, undefined_interval
from harness.stats.power import minimal_detectable_effect
from harness.stats.seeds import MIN_SEEDS, crossed
from harness.stats.significance import (
    equivalence_p,
    flip_generator,
    sign_flip_p,
    t_value,
    two_sided_p,
    wilcoxon_p,
)

Verdict = Literal["better", "worse", "tied", "undecided"]
Scope = Literal["checkpoints", "training"]

MARGIN = 0.005  # half a point: below it two methods are called tied


@dataclass(frozen=True)
class Comparison:
    """The first method minus the second, paired episode by episode and seed by seed.

    Attributes:
        n_seeds: S, seeds both have.
        n_episodes: T, episodes both have (classes, in the joint protocol).
        mean_a: mean of the first method, a fraction in [0, 1].
        mean_b: mean of the second method, a fraction in [0, 1].
        difference: mean_a - mean_b.
        interval: of the difference; kind "crossed" from three seeds on, else "sampler".
        sd_difference: standard deviation over episodes of the seed-averaged difference, a fraction; None for
            one episode.
        correlation: Pearson r over episodes of the seed-averaged accuracies; None where one does not vary.
        t: difference / standard error; inf where the differences do not vary, 0 where they are all zero.
        p: two-sided, of the t test; where the differences do not vary, of the sign test: 2^(1-T).
        p_permutation: two-sided, of random sign flips over episodes.
        p_wilcoxon: two-sided, of the signed-rank test with Pratt's zeros over episodes.
        p_equivalence: the larger one-sided p of the two tests against ± ``margin``.
        margin: a fraction.
        detectable: smallest true difference found with 80% power, a fraction; None for one episode.
        verdict: on the first method, at the level of the interval, with ``p`` (unadjusted).
        scope: "training" when the error includes the training seeds, else "checkpoints": the verdict is then
            about these trained models. Permutation and Wilcoxon p are always about checkpoints.
    """

    n_seeds: int
    n_episodes: int
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval
    sd_difference: float | None
    correlation: float | None
    t: float
    p: float
    p_permutation: float
    p_wilcoxon: float
    p_equivalence: float
    margin: float
    detectable: float | None
    verdict: Verdict
    scope: Scope


def compare(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    ids: tuple[str, str],
    margin: float = MARGIN,
    level: float = 0.95,
    n_flips: int = 10_000,
) -> Comparison:
    """Compare two methods on one episode list.

    Args:
        a: (S, T) accuracies in [0, 1] of the first method; (T,) is one seed.
        b: the same shape for the second, row by row the same seed, column by column the same episode.
        ids: the two run (or row) ids; the sign flips are drawn from a digest of them, in either order.
        margin: differences within ± margin count as tied, a fraction.
        level: confidence of the interval; 1 - level is the size of every test.
        n_flips: sign flips of the permutation test.

    Raises:
        ValueError: when shapes differ, for NaN, or values outside [0, 1].
    """
    first, second = paired_difference(a, b)
    difference = first - second  # (S, T)
    by_episode = difference.mean(axis=0)  # (T,)
    error = difference_error(difference)
    n_seeds, n_episodes = difference.shape
    mean, se = float(difference.mean()), error.standard_error or 0.0
    test = np.array(mean), np.array(se), np.array(error.df), np.array(n_episodes)
    p, p_equivalence = float(two_sided_p(*test)), float(equivalence_p(*test, margin))
    known = error.standard_error is not None
    return Comparison(
        n_seeds=n_seeds,
        n_episodes=n_episodes,
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=mean,
        interval=_interval(mean, error, n_seeds, n_episodes, level),
        sd_difference=float(by_episode.std(ddof=1)) if known else None,
        correlation=_correlation(first.mean(axis=0), second.mean(axis=0)),
        t=float(t_value(test[0], test[1])),
        p=p,
        p_permutation=sign_flip_p(by_episode, flip_generator(*ids), n_flips),
        p_wilcoxon=wilcoxon_p(by_episode),
        p_equivalence=p_equivalence,
        margin=margin,
        detectable=minimal_detectable_effect(se) if known else None,
        verdict=verdict(mean, p, p_equivalence, 1 - level),
        scope=error.scope,
    )


def verdict(difference: float, p: float, p_equivalence: float, alpha: float = 0.05) -> Verdict:
    """Judge the first method: significance first, then equivalence, else undecided.

    A difference may be significant and still within the margin; it is then "better" or "worse".

    Args:
        difference: first minus second.
        p: two-sided p of no difference; Holm's, where many pairs are judged.
        p_equivalence: p of a difference beyond the margin.
        alpha: size of both tests.

    >>> verdict(0.01, 0.001, 0.9), verdict(0.001, 0.3, 0.01), verdict(0.01, 0.3, 0.9)
    ('better', 'tied', 'undecided')
    """
    if p < alpha:
        return "better" if difference > 0 else "worse"
    return "tied" if p_equivalence < alpha else "undecided"


class DifferenceError(NamedTuple):
    """Standard error (a fraction, None for one episode), its degrees of freedom, and what it covers."""

    standard_error: float | None
    df: float
    scope: Scope


def difference_error(difference: FloatArray) -> DifferenceError:
    """Choose the error of an (S, T) difference: crossed from three seeds on, else over episodes."""
    is_crossed = difference.shape[0] >= MIN_SEEDS
    parts = crossed(difference if is_crossed else difference.mean(axis=0))
    se = parts.standard_error
    if se is not None and se * math.sqrt(parts.n_episodes) < NO_SPREAD:
        se = 0.0  # rounding noise
    return DifferenceError(se, parts.df, "training" if is_crossed else "checkpoints")


def _interval(mean: float, error: DifferenceError, n_seeds: int, n_episodes: int, level: float) -> Interval:
    """Put the t interval of the chosen error around the difference, with what it leaves out."""
    if error.standard_error is None:
        return undefined_interval(mean, "sampler", n_episodes, "one episode has no spread")
    if error.scope == "training":
        size = n_seeds * n_episodes
        return student_interval(mean, error.standard_error, error.df, "crossed", size, level)
    seeds = "one training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
    note = f"{seeds}: training variance unknown"
    return student_interval(mean, error.standard_error, error.df, "sampler", n_episodes, level, note)


def _correlation(a: FloatArray, b: FloatArray) -> float | None:
    """Pearson r, None where a side does not vary."""
    if len(a) < 2 or min(a.std(), b.std()) < NO_SPREAD:
        return None
    return float(np.corrcoef(a, b)[0, 1])


class Unpaired(NamedTuple):
    """What a comparison says when the pairing is thrown away: standard error (a fraction) and Welch's p."""

    standard_error: float
    p: float


def unpaired(a: npt.ArrayLike, b: npt.ArrayLike) -> Unpaired:
    """Compare two lists of accuracies as if their episodes were unrelated (Welch), to show what pairing buys.

    Two lists that do not vary get the exact permutation p instead: 2 / binomial(T + U, T).

    Args:
        a: (T,) accuracies in [0, 1], T >= 2.
        b: (U,) accuracies in [0, 1], U >= 2.

    Raises:
        ValueError: for fewer than two values, NaN, or values outside [0, 1].
    """
    first, second = vector(a, "the first accuracy"), vector(b, "the second accuracy")
    n = np.array([len(first), len(second)])
    if n.min() < 2:
        raise ValueError(f"an unpaired comparison needs two values on each side, found {n[0]} and {n[1]}")
    part = np.array([first.var(ddof=1), second.var(ddof=1)]) / n
    se = math.sqrt(part.sum())
    if se * math.sqrt(n.min()) < NO_SPREAD:
        same = abs(first.mean() - second.mean()) < NO_SPREAD
        return Unpaired(0.0, 1.0 if same else 2 / math.comb(int(n.sum()), int(n[0])))
    df = part.sum() ** 2 / (part**2 / (n - 1)).sum()
    return Unpaired(se, float(2 * special.stdtr(df, -abs(first.mean() - second.mean()) / se)))
