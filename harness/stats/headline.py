"""The interval beside a mean: Wilson's score interval on the effective sample size (STATISTICS s.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from harness.stats.checks import FloatArray, IntArray
from harness.stats.draws import LEAST_VARIANCE, Draws
from harness.stats.intervals import Interval
from harness.stats.rows import Row


class Ends(NamedTuple):
    """Ends of intervals, fractions in [0, 1]."""

    low: FloatArray
    high: FloatArray


class SeedPart(NamedTuple):
    """What the seeds add to the error of a mean.

    Attributes:
        variance: seed part of the squared error of the mean.
        df: its degrees of freedom.
        shape: g = m(1-m) of the row.
    """

    variance: float
    df: float
    shape: float


class Headline(NamedTuple):
    """Means with the interval for other trainings and other episodes; (M,) fractions each.

    Attributes:
        mean: over trainings and episodes.
        low: lower end.
        high: upper end.
        standard_error: of the mean.
        seed_sd: standard deviation between trainings, moderated; 0 without training.
        seed_variance: seed part of the squared error.
        seed_df: degrees of freedom of both.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray
    seed_sd: FloatArray
    seed_variance: FloatArray
    seed_df: FloatArray

    def interval(self, m: int, n_trainings: int) -> Interval:
        """Give one row's mean with its interval."""
        low, high, se = (float(values[m]) for values in (self.low, self.high, self.standard_error))
        return Interval(float(self.mean[m]), low, high, se, "training", n_trainings)

    def seed_part(self, m: int, shape: float) -> SeedPart:
        """Give what the seeds add to the error of one row's mean."""
        return SeedPart(float(self.seed_variance[m]), float(self.seed_df[m]), shape)

    def take(self, order: IntArray) -> Headline:
        """Put the rows into another order."""
        return Headline(*(values[order] for values in self))


def headline(rows: Sequence[Row], draws: Draws, alpha: float = 0.05) -> Headline:
    """Give the interval of each mean.

    SE^2 = C_mm + seed part and c = t^2 SE^2 / g with t the 95% point of |draw| / SE. Where few episodes are
    imperfect, C_mm is at least 5 g / (T W Q); where none varies, t is Student's with the df of the seeds.
    """
    model, seed = draws.model, draws.model.moderated.seed_variance
    episode, g = np.diag(model.episode), np.array([row.shape for row in rows])
    plain = np.sqrt(np.maximum(episode + seed, LEAST_VARIANCE))
    drawn = np.quantile(np.abs(draws.error) / plain[:, None], 1 - alpha, axis=1)
    t = np.where(episode > 0, drawn, special.stdtrit(model.moderated.df, 1 - alpha / 2))
    variance = np.maximum(episode, np.array([row.floor for row in rows]) * g) + seed
    low, high = score_ends(model.mean, t**2 * variance / g)
    seed_sd = np.sqrt(seed * model.moderated.n_trainings)
    return Headline(model.mean, low, high, np.sqrt(variance), seed_sd, seed, model.moderated.df)


def score_ends(mean: FloatArray, c: FloatArray) -> Ends:
    """Solve (x - m)^2 = c x (1 - x) for both ends; they never leave [0, 1].

    Args:
        mean: m, fractions in [0, 1].
        c: t^2 SE^2 / (m(1-m)), the relative variance at the level asked for.

    >>> [round(float(end), 3) for end in score_ends(np.array(1.0), np.array(3.84 / 20))]
    [0.839, 1.0]
    """
    middle, half = mean + c / 2, np.sqrt(c * mean * (1 - mean) + c**2 / 4)
    low, high = (middle - half) / (1 + c), (middle + half) / (1 + c)
    return Ends(np.clip(low, 0, mean), np.clip(high, mean, 1))
