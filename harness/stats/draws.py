"""The joint draws of the errors of all means of a table, from which everything else is read (STATISTICS s.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from harness.stats.checks import FloatArray, IntArray
from harness.stats.moderation import Moderated, moderate, seed_correlation
from harness.stats.prior import Prior
from harness.stats.rows import Row, sharing

N_DRAWS = 20_000
LEAST_VARIANCE = 1e-18  # keeps quotients finite where nothing varies


@dataclass(frozen=True)
class ErrorModel:
    """How the M means of one table err together, for other trainings and other episodes of these classes.

    Attributes:
        mean: (M,) fractions.
        n_episodes: T.
        episode: (M, M), C = cov_t(mean over trainings) / T.
        moderated: the seed variances.
        correlation: (M, M), of the seed errors of the means.
        cluster: (M,) int64; rows of one cluster share trainings and one chi-square.
    """

    mean: FloatArray
    n_episodes: int
    episode: FloatArray
    moderated: Moderated
    correlation: FloatArray
    cluster: IntArray

    @property
    def seed(self) -> FloatArray:
        """(M, M) covariance of the seed errors of the means, plug-in."""
        sd = np.sqrt(self.moderated.seed_variance)
        return np.asarray(self.correlation * np.outer(sd, sd))

    @property
    def variance(self) -> FloatArray:
        """(M, M) squared standard error of the difference of each pair; 0 on the diagonal."""
        episode, seed = _of_differences(self.episode), _of_differences(self.seed)
        return np.asarray(np.maximum(episode, 0) + np.maximum(seed, 0))

    @property
    def df(self) -> FloatArray:
        """(M, M) Satterthwaite degrees of freedom of ``variance``, at least 1."""
        part = (self.moderated.tau2 / self.moderated.n_trainings) ** 2 / self.moderated.df  # (M,)
        own = np.maximum(_of_differences(self.episode), 0) ** 2 / (self.n_episodes - 1)
        parts = np.maximum(part[:, None] + part + own, 1e-40)
        return np.asarray(np.maximum(1, np.maximum(self.variance, LEAST_VARIANCE) ** 2 / parts))

    @property
    def cluster_df(self) -> FloatArray:
        """(clusters,) degrees of freedom of the chi-square of each cluster: the smallest of its rows."""
        return np.array([self.moderated.df[self.cluster == c].min() for c in range(self.cluster.max() + 1)])


def error_model(rows: Sequence[Row], prior: Prior) -> ErrorModel:
    """Estimate the error model of rows on one episode list.

    Raises:
        ValueError: for no rows, rows with unlike numbers of episodes, or one episode.
    """
    lengths = sorted({row.n_episodes for row in rows})
    if len(lengths) != 1 or lengths[0] < 2:
        raise ValueError(
            f"an error model needs rows on one list of two episodes or more, found lists of {lengths}; "
            "cut them to their common prefix"
        )
    moderated = moderate(rows, prior)
    by_episode = np.array([row.by_episode for row in rows])  # (M, T)
    return ErrorModel(
        mean=np.array([row.mean for row in rows]),
        n_episodes=lengths[0],
        episode=np.atleast_2d(np.cov(by_episode)) / lengths[0],
        moderated=moderated,
        correlation=seed_correlation(rows, prior, moderated),
        cluster=sharing(rows),
    )


@dataclass(frozen=True)
class Draws:
    """B joint draws; arrays run over the draws last, so that one row or pair is contiguous.

    Attributes:
        model: what was drawn from.
        error: (M, B) errors of the means.
        seed_sd: (M, B) drawn standard deviation of the seed error of each mean.
        inflation: (B,) drawn ratio of the true episode variance to the estimated one.
    """

    model: ErrorModel
    error: FloatArray
    seed_sd: FloatArray
    inflation: FloatArray

    @property
    def mean(self) -> FloatArray:
        """(M,) means."""
        return self.model.mean

    @property
    def training_sd(self) -> FloatArray:
        """(M, B) drawn standard deviations of one training."""
        return np.asarray(self.seed_sd * np.sqrt(self.model.moderated.n_trainings)[:, None])

    @property
    def n_episodes(self) -> int:
        """T."""
        return self.model.n_episodes

    @property
    def variance(self) -> FloatArray:
        """(M, M) squared standard errors of the differences."""
        return self.model.variance

    @property
    def episode_variance(self) -> FloatArray:
        """(M, M) their part that other episodes explain."""
        return np.maximum(_of_differences(self.model.episode), 0)

    @property
    def df(self) -> FloatArray:
        """(M, M) degrees of freedom of ``variance``."""
        return self.model.df

    def pair_sd(self, i: int, j: int) -> FloatArray:
        """(B,) drawn standard deviations of the difference of two rows."""
        model, of_i, of_j = self.model, self.seed_sd[i], self.seed_sd[j]
        variance = self.inflation * (model.episode[i, i] + model.episode[j, j] - 2 * model.episode[i, j])
        variance += of_i * of_i
        variance += of_j * of_j
        variance -= 2 * model.correlation[i, j] * of_i * of_j
        np.maximum(variance, 0, out=variance)
        variance += LEAST_VARIANCE
        return np.asarray(np.sqrt(variance, out=variance))


def draw(model: ErrorModel, rng: np.random.Generator, n_draws: int = N_DRAWS) -> Draws:
    """Draw e_b = N(0, C) sqrt((T-1)/chi^2_{T-1}) + N(0, max(f tau^2/chi^2_f - r, 0) / S).

    The variances are drawn, so the tails are right. Rows that share trainings have one chi^2_f.

    Args:
        model: of M rows.
        rng: its raw words are the only randomness: numpy keeps them between versions, its normals not.
        n_draws: B.
    """
    n_rows, cluster_df = len(model.mean), model.cluster_df
    free = model.n_episodes - 1
    inflation = free / chi_square(np.array([free]), rng, n_draws)[0]  # (B,)
    factor = (cluster_df[:, None] / chi_square(cluster_df, rng, n_draws))[model.cluster]  # (M, B)
    seed = model.moderated
    variance = np.maximum(seed.tau2[:, None] * factor - seed.within[:, None], 0) / seed.n_trainings[:, None]
    seed_sd = np.sqrt(variance)
    of_episodes = square_root(model.episode) @ normal(rng, n_rows, n_draws) * np.sqrt(inflation)
    of_seeds = square_root(model.correlation) @ normal(rng, n_rows, n_draws) * seed_sd
    return Draws(model, of_episodes + of_seeds, seed_sd, inflation)


def _of_differences(covariance: FloatArray) -> FloatArray:
    """Variances of all differences from (M, M) covariances."""
    own = np.diag(covariance)
    return np.asarray(own[:, None] + own - 2 * covariance)


def uniform(rng: np.random.Generator, rows: int, columns: int) -> FloatArray:
    """Turn raw 64-bit words into numbers strictly between 0 and 1: (rows, columns)."""
    words = np.asarray(rng.bit_generator.random_raw(rows * columns), dtype=np.uint64)
    return ((words >> np.uint64(12)) + 0.5).reshape(rows, columns) * 2.0**-52


def normal(rng: np.random.Generator, rows: int, columns: int) -> FloatArray:
    """Draw standard normals by the inverse of their distribution: (rows, columns)."""
    return np.asarray(special.ndtri(uniform(rng, rows, columns)))


def chi_square(df: FloatArray, rng: np.random.Generator, n_draws: int) -> FloatArray:
    """Draw chi-squares with (n,) degrees of freedom: (n, B).

    Each takes every one of B evenly spaced quantiles once, in a random order (a Latin hypercube): the margins are
    exact, and the inverse of the distribution is computed once for rows of equal df.
    """
    values, which = np.unique(np.asarray(df, dtype=np.float64), return_inverse=True)
    level = (np.arange(n_draws) + 0.5) / n_draws
    quantile = 2 * special.gammaincinv(values[:, None] / 2, level)  # (distinct, B)
    order = np.argsort(uniform(rng, len(which), n_draws), axis=1, kind="stable")
    return np.take_along_axis(quantile[which.ravel()], order, axis=1)


def quantiles(drawn: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Give quantiles over the last axis, as ``np.quantile`` does, faster: two draws or more are put in another order."""
    last = drawn.shape[-1] - 1
    below = [min(int(level * last), last - 1) for level in levels]
    drawn.partition(sorted({k for low in below for k in (low, low + 1)}), axis=-1)
    parts = zip(below, levels, strict=True)
    return np.array(
        [drawn[..., k] + (level * last - k) * (drawn[..., k + 1] - drawn[..., k]) for k, level in parts]
    )


def square_root(covariance: FloatArray) -> FloatArray:
    """Symmetric root of a covariance, negative eigenvalues cut: it does not depend on the order of the rows."""
    value, vector = np.linalg.eigh(covariance)
    return np.asarray((vector * np.sqrt(np.maximum(value, 0))) @ vector.T)
