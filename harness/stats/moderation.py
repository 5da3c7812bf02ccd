"""The seed variance of each row, shrunk towards the database, and how rows that share trainings move together.

STATISTICS s.1; the shrinking is that of Smyth (2004), the outlier rule follows Phipson et al. (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import special

from harness.stats.checks import FloatArray
from harness.stats.prior import Prior
from harness.stats.rows import Row

KAPPA = 0.5  # prior share of the seed variance that differs between two variants of one training
OUTLIER = 0.01  # a row this improbable under the prior keeps its own variance
MOST_CORRELATED = 0.99


class Moderated(NamedTuple):
    """Variances between trainings, (M,) float64 each.

    Attributes:
        tau2: moderated variance of the mean of one training, its sampler part included; 0 without training.
        within: r, the sampler part of ``tau2``.
        df: f, what ``tau2`` is worth.
        n_trainings: S.
    """

    tau2: FloatArray
    within: FloatArray
    df: FloatArray
    n_trainings: FloatArray

    @property
    def seed_variance(self) -> FloatArray:
        """Seed part of the squared error of each mean: max(0, tau^2 - r) / S."""
        return np.maximum(self.tau2 - self.within, 0) / self.n_trainings


def moderate(rows: Sequence[Row], prior: Prior) -> Moderated:
    """Shrink: tau^2 = (d0 (s0^2 g + r) + (S-1) v) / (d0 + S-1), worth d0 + S-1 degrees of freedom.

    A row with P(F(S-1, d0) > v / (s0^2 g + r)) < 0.01 keeps its own v and S-1.
    """
    columns = [(row.between, row.within, row.shape, row.n_trainings, row.is_trained) for row in rows]
    v, r, g, n, trained = np.array(columns, dtype=np.float64).T
    expected, own_df = prior.s0**2 * g + r, n - 1
    df = prior.d0 + own_df
    tau2 = (prior.d0 * expected + own_df * v) / df
    outlier = (n > 1) & (special.fdtrc(np.maximum(own_df, 1), prior.d0, v / expected) < OUTLIER)
    tau2, df = np.where(outlier, v, tau2), np.where(outlier, own_df, df)
    return Moderated(tau2 * trained, r * trained, df, n)


def seed_correlation(rows: Sequence[Row], prior: Prior, moderated: Moderated) -> FloatArray:
    """Correlate the seed errors of the M means: (M, M), 1 on the diagonal.

    Seeds are independent between rows unless the rows share trainings; those are paired by training, and their
    covariance is moderated with prior correlation 1 - kappa. With n_ij common trainings the correlation of the
    means is rho_ij n_ij / sqrt(S_i S_j).
    """
    correlation = np.eye(len(rows))
    variance = np.maximum(moderated.seed_variance * moderated.n_trainings, 1e-15)
    for i, j in combinations(range(len(rows)), 2):
        common = sorted(set(rows[i].fits) & set(rows[j].fits))
        if common and rows[i].is_trained and rows[j].is_trained:
            shrunk = _moderated_covariance(rows[i], rows[j], common, prior)
            rho = np.clip(shrunk / np.sqrt(variance[i] * variance[j]), -MOST_CORRELATED, MOST_CORRELATED)
            share = len(common) / np.sqrt(rows[i].n_trainings * rows[j].n_trainings)
            correlation[i, j] = correlation[j, i] = rho * share
    return correlation


def _moderated_covariance(a: Row, b: Row, common: list[str], prior: Prior) -> float:
    """Shrink the seed covariance over common trainings towards (1 - kappa) s0^2 sqrt(g_a g_b)."""
    expected = (1 - KAPPA) * prior.s0**2 * np.sqrt(a.shape * b.shape)
    own_df, covariance = len(common) - 1, 0.0
    if own_df:
        x, y = (row.accuracy[[row.fits.index(f) for f in common]] for row in (a, b))  # (n_ij, T)
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        by_x, by_y = x.mean(axis=1), y.mean(axis=1)
        rest = float(((x - by_x[:, None]) * (y - by_y[:, None])).sum())
        n_episodes = x.shape[1]
        covariance = (float(by_x @ by_y) - rest / n_episodes / max(1, n_episodes - 1)) / own_df
    return float((prior.d0 * expected + own_df * covariance) / (prior.d0 + own_df))
