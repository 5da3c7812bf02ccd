"""Every row against every other: one scope, one family, both directions, ranks (STATISTICS s.4 and s.5).

The question of every number here: would it hold if everything were trained again, on other episodes of these classes?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import combinations
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.seeding import numpy_generator
from harness.stats.checks import FloatArray, IntArray
from harness.stats.draws import LEAST_VARIANCE, N_DRAWS, draw, error_model, quantiles
from harness.stats.headline import Headline, headline
from harness.stats.looks import is_between_looks, size_of_test
from harness.stats.prior import Prior
from harness.stats.rows import Row
from harness.stats.significance import holm, two_sided_p

BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]
Word = Literal["better", "worse", "tied", "undecided"]

NOT_REPEATED: Final = "no training was repeated"
BETWEEN_LOOKS: Final = "between looks"

ALPHA = 0.05
MARGIN = 0.005  # half a point: below it two methods are called tied
NOTHING_VARIES = 1e-16  # squared standard error; then only the sign test has an answer
BLOCK = 800_000  # scores at a time, pairs × draws: bounds the memory of many rows


class JointErrors(Protocol):
    """What a family is judged by; ``Draws`` and sums of them (``across``) are two."""

    @property
    def mean(self) -> FloatArray:
        """(M,)."""

    @property
    def n_episodes(self) -> int:
        """T."""

    @property
    def variance(self) -> FloatArray:
        """(M, M) squared standard errors of the differences."""

    @property
    def episode_variance(self) -> FloatArray:
        """(M, M) their part that other episodes explain."""

    @property
    def df(self) -> FloatArray:
        """(M, M) degrees of freedom of ``variance``."""

    @property
    def error(self) -> FloatArray:
        """(M, B) drawn errors of the means."""

    def pair_sd(self, i: int, j: int) -> FloatArray:
        """(B,) drawn standard deviations of the difference of two rows."""


@dataclass(frozen=True)
class Pairs:
    """A family of M rows, row minus column; arrays (M, M) float64 unless said. Fractions throughout.

    Attributes:
        difference: of the means.
        standard_error: of the difference; 0 on the diagonal.
        half_width: of the 95% interval of one difference.
        bound: |difference| is below this, 95% (one-sided).
        p: of this pair alone.
        p_adjusted: over the family, both directions (step-down maximum).
        p_equivalence_alone: of a difference beyond ± margin (TOST); 1 where the one seen is.
        p_equivalence: the same, Holm over the family.
        p_episodes: over the episodes alone, Holm over the family: about these trained models.
        alpha: size at which the pair is judged: 0.05, or 0.02 for rows extended past the plan (s.9).
        held: (M, M) str, why no word is given whatever p; empty where one is.
        margin: half a point.
        largest: (B,) the largest score of any pair in each draw, as if no pair differed.
    """

    difference: FloatArray
    standard_error: FloatArray
    half_width: FloatArray
    bound: FloatArray
    p: FloatArray
    p_adjusted: FloatArray
    p_equivalence_alone: FloatArray
    p_equivalence: FloatArray
    p_episodes: FloatArray
    alpha: FloatArray
    held: StrArray
    margin: float
    largest: FloatArray

    @cached_property
    def is_better(self) -> BoolArray:
        """(M, M) bool: the row is better than the column."""
        return (self.p_adjusted <= self.alpha) & (self.difference > 0) & (self.held == "")

    @cached_property
    def words(self) -> StrArray:
        """(M, M) words on the row; a row is tied with itself."""
        better, tied = self.is_better, (self.p_equivalence <= self.alpha) & (self.held == "")
        np.fill_diagonal(tied, True)
        return np.select([better, better.T, tied], ["better", "worse", "tied"], "undecided")

    @cached_property
    def ranks(self) -> Ranks:
        """Ranks that hold together with 95%, for the whole column: [1 + better, M - worse]."""
        better = self.is_better
        return Ranks(1 + better.sum(axis=0), len(better) - better.sum(axis=1))

    def pair_level(self, alpha: float = ALPHA) -> float:
        """Give the p of one pair below which the first step claims it."""
        return float(2 * special.ndtr(-np.quantile(self.largest, 1 - alpha))) if len(self.p) > 1 else alpha

    def reordered(self, order: IntArray) -> Pairs:
        """Put the rows of all matrices into another order."""
        matrices = {
            field.name: v[np.ix_(order, order)]
            for field in fields(self)
            if np.ndim(v := getattr(self, field.name)) == 2
        }
        return replace(self, **matrices)


class Ranks(NamedTuple):
    """Ranks each row may have, 1 the best: (M,) int64 ``low`` and ``high``."""

    low: IntArray
    high: IntArray


@dataclass(frozen=True)
class Family:
    """A family of rows judged together, in the order given."""

    rows: tuple[Row, ...]
    pairs: Pairs
    headline: Headline


def judge(
    rows: Sequence[Row], prior: Prior, margin: float = MARGIN, alpha: float = ALPHA, n_draws: int = N_DRAWS
) -> Family:
    """Judge all pairs of a family from one set of joint draws.

    The draws are seeded by the sorted ids, so the order of the rows changes nothing, to the last bit.

    Args:
        rows: of one episode list, with distinct ids and unequal results (``equal_rows``).
        prior: of the whole database.
        margin: differences within ± margin count as tied, a fraction.
        alpha: family-wise error, both directions.
        n_draws: B.

    Raises:
        ValueError: for no rows, equal ids, rows with unlike numbers of episodes, or one episode.
    """
    order = sorted(range(len(rows)), key=lambda m: rows[m].id)
    ordered = [rows[m] for m in order]
    ids = [row.id for row in ordered]
    if len(set(ids)) < len(ids):
        raise ValueError(f"the rows of a family need distinct ids, found {ids}")
    draws = draw(error_model(ordered, prior), numpy_generator(0, "joint-draws", *ids), n_draws)
    pairs = judge_pairs(draws, margin, alpha, sizes(ordered, alpha), held(ordered, prior))
    back = np.argsort(order)
    return Family(tuple(rows), pairs.reordered(back), headline(ordered, draws, alpha).take(back))


def held(rows: Sequence[Row], prior: Prior) -> StrArray:
    """Say why a pair is undecided whatever its p: (M, M) str, empty where nothing holds it.

    While the database has fewer than eight repeated rows, a row trained once has nobody to borrow its seed error
    from (s.2); between two looks an extended row waits for its next one (s.9).
    """
    unknown = np.array([row.is_trained and row.n_trainings == 1 and not prior.lends for row in rows])
    waits = np.array([row.is_trained and is_between_looks(row.n_trainings, row.n_planned) for row in rows])
    other = ~np.eye(len(rows), dtype=bool)
    return np.select(
        [other & (unknown[:, None] | unknown), other & (waits[:, None] | waits)],
        [NOT_REPEATED, BETWEEN_LOOKS],
        "",
    )


def sizes(rows: Sequence[Row], alpha: float = ALPHA) -> FloatArray:
    """Size at which each pair is judged: (M, M); smaller where a row was extended past its plan (s.9)."""
    own = np.array(
        [size_of_test(row.n_trainings, row.n_planned, alpha) if row.is_trained else alpha for row in rows]
    )
    return np.minimum(own[:, None], own)


def judge_pairs(errors: JointErrors, margin: float, alpha: float, size: FloatArray, held: StrArray) -> Pairs:
    """Judge all pairs from joint draws of the errors of their means."""
    n_rows = len(errors.mean)
    i, j = np.triu_indices(n_rows, 1)
    d = (errors.mean[:, None] - errors.mean)[i, j]
    variance, df = np.maximum(errors.variance[i, j], LEAST_VARIANCE), errors.df[i, j]
    se = np.sqrt(variance)
    alone = _alone(errors, d, margin, alpha)
    flat, n = variance <= NOTHING_VARIES, errors.n_episodes
    p = np.where(flat, np.where(np.abs(d) < 1e-9, 1.0, 2.0 ** (1 - n)), alone.p)
    beyond = np.where(flat, np.where(np.abs(d) < margin, 0.5**n, 1.0), alone.p_equivalence)
    step = step_down(errors.error, d, variance, df)
    own = np.sqrt(np.where(errors.episode_variance[i, j] <= NOTHING_VARIES, 0, errors.episode_variance[i, j]))
    over_episodes = two_sided_p(d, own, np.full(len(d), n - 1.0), np.array(n))
    square = _Square(n_rows, i, j)
    return Pairs(
        difference=square(d, 0.0, odd=True),
        standard_error=square(np.where(flat, 0.0, se), 0.0),
        half_width=square(alone.half_width, 0.0),
        bound=square(alone.bound, 0.0),
        p=square(p, 1.0),
        p_adjusted=square(np.maximum(step.p, p), 1.0),
        p_equivalence_alone=square(beyond, 0.0),
        p_equivalence=square(holm(beyond) if len(d) else beyond, 0.0),
        p_episodes=square(holm(over_episodes) if len(d) else over_episodes, 1.0),
        alpha=size,
        held=held,
        margin=margin,
        largest=step.largest,
    )


class _Square(NamedTuple):
    """Fill (M, M) matrices from the values of the pairs i < j."""

    n_rows: int
    i: IntArray
    j: IntArray

    def __call__(self, values: FloatArray, diagonal: float, odd: bool = False) -> FloatArray:
        matrix = np.full((self.n_rows, self.n_rows), diagonal)
        matrix[self.i, self.j], matrix[self.j, self.i] = values, -values if odd else values
        return matrix


class _Alone(NamedTuple):
    """Each pair by itself: (P,) float64."""

    p: FloatArray
    p_equivalence: FloatArray
    half_width: FloatArray
    bound: FloatArray


def _alone(errors: JointErrors, d: FloatArray, margin: float, alpha: float) -> _Alone:
    """Test and bound each pair by itself, one after the other, so that its draws stay in the processor's cache.

    p = mean_b 2 Phi(-|d| / sd_b), of the drawn variances alone, so that it has no floor; the ends of the interval
    are quantiles of the drawn errors, which lie symmetrically about 0.
    """
    found = np.empty((4, len(d)))
    for k, (i, j) in enumerate(combinations(range(len(errors.mean)), 2)):
        gap, sd = abs(d[k]), errors.pair_sd(i, j)  # (B,)
        size = errors.error[i] - errors.error[j]
        one_sided, two_sided = quantiles(np.abs(size, out=size), (1 - 2 * alpha, 1 - alpha))
        beyond = special.ndtr((gap - margin) / sd).mean() if gap < margin else 1.0
        t = np.divide(-gap, sd, out=sd)
        found[:, k] = 2 * special.ndtr(t, out=t).mean(), beyond, two_sided, gap + one_sided
    return _Alone(*found)


class StepDown(NamedTuple):
    """Adjusted p of each pair (P,), and the largest score of any pair in each draw (B,)."""

    p: FloatArray
    largest: FloatArray


def step_down(error: FloatArray, d: FloatArray, variance: FloatArray, df: FloatArray) -> StepDown:
    """Adjust the pairs i < j by the step-down maximum over the directions not yet claimed.

    After claiming i > j its reverse stays in the maximum, so wrong directions are controlled as well (Romano & Wolf;
    the ordered-pair form of Mogstad, Romano, Shaikh & Wilhelm). p = (1 + #{max_b >= z}) / (B + 1), made monotone.

    Args:
        error: (M, B) drawn errors of the means.
        d: (P,) differences seen, the pairs of ``np.triu_indices(M, 1)``.
        variance: (P,) squared standard errors.
        df: (P,) their degrees of freedom.
    """
    n_draws = error.shape[1]
    seen = z_score(d**2 / variance, df) ** 2
    order = np.argsort(-seen, kind="stable")
    i, j = (side[order] for side in np.triu_indices(len(error), 1))
    seen, sign = seen[order], np.sign(d[order])[:, None]
    scale, factor = np.sqrt(variance * df)[order, None], _of_log(df)[order, None]
    largest, exceeding = np.zeros(n_draws), np.zeros(len(d), dtype=np.int64)
    n_at_once = max(64, BLOCK // max(1, len(d)))
    for start in range(0, n_draws if len(d) else 0, n_at_once):
        block = slice(start, start + n_at_once)
        drawn = error[i, block] - error[j, block]  # (P, b)
        is_reverse = sign * drawn < 0
        drawn /= scale
        drawn *= drawn
        score = np.log1p(drawn, out=drawn)
        score *= factor  # squares: roots are not needed to compare
        reverse = score * is_reverse
        for k in range(1, len(d)):  # several times faster than accumulate
            np.maximum(score[-k - 1], score[-k], out=score[-k - 1])
            np.maximum(reverse[k], reverse[k - 1], out=reverse[k])
        largest[block] = np.sqrt(score[0])
        np.maximum(score[1:], reverse[:-1], out=score[1:])
        exceeding += [np.count_nonzero(row >= bar) for row, bar in zip(score, seen, strict=True)]
    adjusted = np.empty(len(d))
    adjusted[order] = np.maximum.accumulate((1 + exceeding) / (n_draws + 1))
    return StepDown(adjusted, largest)


def z_score(t2: FloatArray, df: FloatArray) -> FloatArray:
    """Turn a squared Student t into a normal score, so that pairs of unlike df lie on one scale (Wallace 1959).

    z = (8 df + 1) / (8 df + 3) sqrt(df log(1 + t^2 / df)).
    """
    return np.asarray(np.sqrt(_of_log(df) * np.log1p(t2 / df)))


def _of_log(df: FloatArray) -> FloatArray:
    """What log(1 + t^2 / df) is multiplied with to give z^2."""
    return np.asarray(((8 * df + 1) / (8 * df + 3)) ** 2 * df)
