"""One verdict over several settings: those that share trainings are one piece of evidence (STATISTICS s.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import special

from harness.seeding import numpy_generator
from harness.stats.checks import FloatArray, IntArray
from harness.stats.draws import LEAST_VARIANCE, N_DRAWS, Draws, draw, error_model, quantiles
from harness.stats.pairs import ALPHA, MARGIN, Pairs, StrArray, held, judge_pairs, sizes
from harness.stats.prior import Prior
from harness.stats.rows import Row, sharing, summarise


def averaged(rows: Sequence[Row]) -> Row:
    """Average each training of one method over settings that share it, on their common prefix of episodes.

    Settings whose trainings have no common names are averaged first with first, second with second.

    Args:
        rows: one row a setting.
    """
    common = sorted(set.intersection(*(set(row.fits) for row in rows)))
    n = min(row.n_trainings for row in rows)
    n_episodes = min(row.n_episodes for row in rows)
    picked = [[row.fits.index(f) for f in common] if common else range(n) for row in rows]
    y = [row.accuracy[list(pick), :n_episodes] for row, pick in zip(rows, picked, strict=True)]
    names = common or [f"{rows[0].id}/{k}" for k in range(n)]
    answers = sum(row.n_answers for row in rows)
    first = rows[0]
    return summarise(
        first.id, np.mean(y, axis=0), answers, names, all(row.is_trained for row in rows), first.n_planned
    )


def evidence(settings: Sequence[Sequence[Row]]) -> IntArray:
    """Number the pieces of evidence: settings linked by any shared training are one. (N,) int64.

    Args:
        settings: for each setting its M rows.
    """
    flat = [row for rows in settings for row in rows]
    trained = [m for m, row in enumerate(flat) if row.is_trained]
    n_rows, label = len(settings[0]), sharing(flat)
    piece, first = np.arange(len(settings)), dict[int, int]()
    for m in trained:
        same = first.setdefault(int(label[m]), m // n_rows)
        joined = piece[[same, m // n_rows]]
        piece[np.isin(piece, joined)] = joined.min()
    return np.unique(piece, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class AddedDraws:
    """Weighted sum of the draws of independent pieces of evidence about the same M methods."""

    parts: tuple[Draws, ...]
    weight: FloatArray

    @cached_property
    def mean(self) -> FloatArray:
        """(M,) weighted means."""
        return self._sum([part.mean for part in self.parts], 1)

    @cached_property
    def n_episodes(self) -> int:
        """Of the longest list."""
        return max(part.n_episodes for part in self.parts)

    @cached_property
    def variance(self) -> FloatArray:
        """(M, M) squared standard errors of the differences."""
        return self._sum([part.variance for part in self.parts], 2)

    @cached_property
    def episode_variance(self) -> FloatArray:
        """(M, M) their part that other episodes explain."""
        return self._sum([part.episode_variance for part in self.parts], 2)

    @cached_property
    def df(self) -> FloatArray:
        """(M, M) Satterthwaite degrees of freedom of the sum, at least 1."""
        parts = self._sum([part.variance**2 / part.df for part in self.parts], 4)
        return np.asarray(np.maximum(1, self.variance**2 / np.maximum(parts, 1e-40)))

    @cached_property
    def error(self) -> FloatArray:
        """(M, B) drawn errors of the means."""
        return self._sum([part.error for part in self.parts], 1)

    @cached_property
    def training_sd(self) -> FloatArray:
        """(M, B) drawn standard deviations of one training on every piece."""
        return np.asarray(np.sqrt(self._sum([part.training_sd**2 for part in self.parts], 2)))

    def pair_sd(self, i: int, j: int) -> FloatArray:
        """(B,) drawn standard deviations of the difference of two rows."""
        return np.asarray(np.sqrt(self._sum([part.pair_sd(i, j) ** 2 for part in self.parts], 2)))

    def _sum(self, values: list[FloatArray], exponent: int) -> FloatArray:
        """Sum values weighted to a power."""
        return np.asarray(sum(w**exponent * value for w, value in zip(self.weight, values, strict=True)))


class Superiority(NamedTuple):
    """The chance that one new training of the row beats one of the column: (M, M) in [0, 1] each, with 95% ends."""

    probability: FloatArray
    low: FloatArray
    high: FloatArray


class OverSettings(NamedTuple):
    """What holds over settings, the methods in the order given.

    Attributes:
        pairs: of the means over the settings.
        superiority: of one new training over another.
        piece: number of the piece of evidence of each setting: sets of settings that share no training. (N,) int64.
    """

    pairs: Pairs
    superiority: Superiority
    piece: IntArray

    @property
    def n_pieces(self) -> int:
        """How many pieces of evidence there are."""
        return int(self.piece.max()) + 1


def judge_settings(
    settings: Sequence[Sequence[Row]],
    prior: Prior,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    n_draws: int = N_DRAWS,
) -> OverSettings:
    """Judge methods by their mean over these settings, as one family. It speaks of these settings.

    Args:
        settings: for each setting its M rows, the same methods in the same order.
        prior: of the database.
        margin: differences within ± margin count as tied.
        alpha: family-wise error.
        n_draws: B.

    Raises:
        ValueError: for no settings, or settings with unlike numbers of rows.
    """
    if len({len(rows) for rows in settings}) != 1:
        raise ValueError(f"settings need the same methods, found {[len(rows) for rows in settings]} rows")
    order = sorted(range(len(settings[0])), key=lambda m: settings[0][m].id)
    piece = evidence(settings)
    parts, pieces = [], []
    for k in range(piece.max() + 1):
        members = [rows for rows, own in zip(settings, piece, strict=True) if own == k]
        pieces.append([averaged([rows[m] for rows in members]) for m in order])
        rng = numpy_generator(0, "settings", k, *(row.id for row in pieces[-1]))
        parts.append(draw(error_model(pieces[-1], prior), rng, n_draws))
    errors = AddedDraws(tuple(parts), np.bincount(piece) / len(piece))
    size = np.min([sizes(rows, alpha) for rows in pieces], axis=0)
    back = np.argsort(order)
    pairs = judge_pairs(errors, margin, alpha, size, _held(pieces, prior)).reordered(back)
    chances = (values[np.ix_(back, back)] for values in superiority(errors, alpha))
    return OverSettings(pairs, Superiority(*chances), piece)


def _held(pieces: Sequence[Sequence[Row]], prior: Prior) -> StrArray:
    """Why pairs are held: what holds them on any piece of evidence."""
    reasons = [held(rows, prior) for rows in pieces]
    return np.select([reason != "" for reason in reasons], reasons, "")


def superiority(errors: Draws | AddedDraws, alpha: float = ALPHA) -> Superiority:
    """Give P(A > B) for one new training each: Phi((d + e_b) / sqrt(s_A,b^2 + s_B,b^2)) over the draws."""
    n_rows, training = len(errors.mean), errors.training_sd
    found = np.full((3, n_rows, n_rows), 0.5)
    for i, j in combinations(range(n_rows), 2):
        sd = np.sqrt(training[i] ** 2 + training[j] ** 2 + LEAST_VARIANCE)
        drawn = special.ndtr((errors.mean[i] - errors.mean[j] + errors.error[i] - errors.error[j]) / sd)
        mean, (low, high) = drawn.mean(), quantiles(drawn, (alpha / 2, 1 - alpha / 2))
        found[:, i, j] = mean, low, high
        found[:, j, i] = 1 - found[0, i, j], 1 - high, 1 - low
    return Superiority(*found)
