"""A mean with an interval and what it speaks of; and the one that papers print, Student's over episodes (STATISTICS c.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy.typing as npt

from harness.stats.checks import check_level, vector

IntervalKind = Literal["training", "sampler", "class", "joint"]


@dataclass(frozen=True)
class Interval:
    """A mean with the interval that one named source of variation gives it.

    Attributes:
        mean: fraction in [0, 1] ([-1, 1] for differences).
        low: lower end, a fraction, or None where the interval is undefined.
        high: upper end, a fraction, or None where the interval is undefined.
        standard_error: fraction, or None where the interval is undefined.
        kind: the source of variation: "training" other trainings and other episodes (the headline), "sampler" other
            episodes of these classes (t), "class" other classes and trainings, "joint" other experiments and classes of
            the joint protocol.
        n: how many units carry the interval: trainings, episodes, classes or clusters.
        note: why the interval is undefined, or what it leaves out; empty when there is nothing to add.
    """

    mean: float
    low: float | None
    high: float | None
    standard_error: float | None
    kind: IntervalKind
    n: int
    note: str = ""

    @property
    def half_width(self) -> float | None:
        """Half of high - low, a fraction; None where the interval is undefined."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def undefined_interval(mean: float, kind: IntervalKind, n: int, note: str) -> Interval:
    """Give a mean whose interval the data cannot tell, with the reason."""
    return Interval(mean, None, None, None, kind, n, note)


def student_interval(
    mean: float, standard_error: float, df: float, kind: IntervalKind, n: int, level: float, note: str = ""
) -> Interval:
    """Put a Student interval with ``df`` degrees of freedom around a mean."""
    from scipy import special  # pages that only show an interval need none

    half_width = float(special.stdtrit(df, (1 + check_level(level)) / 2)) * standard_error
    return Interval(mean, mean - half_width, mean + half_width, standard_error, kind, n, note)


def sampler_interval(accuracy: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Say how far the mean would move with other episodes of the same images and classes.

    The interval that papers print: mean ± t(T-1) s / sqrt(T) with ddof 1. It describes the episode sampler
    alone and shrinks for ever with T; it says nothing about other classes or another training.

    Args:
        accuracy: (T,) fractions in [0, 1], one per episode.
        level: confidence, in (0, 1).

    Raises:
        ValueError: for empty input, NaN, or values outside [0, 1].

    >>> round(sampler_interval([0.5, 0.7, 0.6, 0.8]).half_width, 4)
    0.2054
    """
    values = vector(accuracy)
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return undefined_interval(mean, "sampler", 1, "one value has no spread")
    return student_interval(mean, float(values.std(ddof=1)) / math.sqrt(n), n - 1, "sampler", n, level)
