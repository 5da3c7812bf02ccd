"""How far a training moves a mean when it is run again, learnt from every row of the database (STATISTICS s.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from harness.stats.checks import FloatArray
from harness.stats.rows import Row, equal_rows, sharing

S0_LOG_SD, D0_LOG_SD = 0.7, 0.5  # how far a database may move the default, on the log scale
MIN_EPISODES = 100  # a shorter list says too little about trainings
MIN_LENDERS = 8  # repeated rows from which a row with one training may borrow


class Prior(NamedTuple):
    """The seed standard deviation of a row of mean m is s0 sqrt(m(1-m)), worth d0 degrees of freedom.

    Attributes:
        s0: a fraction.
        d0: degrees of freedom.
        n_rows: rows with two trainings or more that it was fitted to.
        n_clusters: clusters of shared trainings among them.
    """

    s0: float
    d0: float
    n_rows: int = 0
    n_clusters: int = 0

    @property
    def lends(self) -> bool:
        """Whether rows trained once may borrow their seed error: eight repeated rows (s.2)."""
        return self.n_rows >= MIN_LENDERS


# rounded from the 187 shipped runs, 56 rows × 3 seeds in 23 clusters of trainings: plain fit 0.0192, 4.1
DEFAULT = Prior(0.02, 3.0)


class Spread(NamedTuple):
    """What rows say about training again, (n,) float64 each; see ``Row``.

    Attributes:
        between: v.
        within: r.
        shape: g = m(1-m).
        n_trainings: S >= 2.
        weight: 1 / (rows that share the trainings of this one).
    """

    between: FloatArray
    within: FloatArray
    shape: FloatArray
    n_trainings: FloatArray
    weight: FloatArray


def prior_of(rows: Sequence[Row]) -> Prior:
    """Fit the prior to the whole database: rows with S >= 2 and T >= 100 that were trained.

    Each row counts 1 / (rows that share its trainings), so that two settings of one training count once.
    """
    use = [row for row in rows if row.is_repeated and row.n_episodes >= MIN_EPISODES]
    if not use:
        return DEFAULT
    same = equal_rows(use)  # equal results are one training, whatever it is called
    cluster = sharing([replace(row, fits=row.fits + use[k].fits) for row, k in zip(use, same, strict=True)])
    v, r, g, n = np.array([(row.between, row.within, row.shape, row.n_trainings) for row in use]).T
    fitted = fit_prior(Spread(v, r, g, n, weight=1 / np.bincount(cluster)[cluster]))
    return fitted._replace(n_rows=len(use), n_clusters=len(np.unique(cluster)))


def fit_prior(spread: Spread) -> Prior:
    """Maximise the penalised likelihood of v ~ (s0^2 g + r) F(S-1, d0).

    log s0 ~ N(log 0.02, 0.7^2) and log d0 ~ N(log 3, 0.5^2), so that few rows stay near the default and no rows
    give it. The likelihood of F needs no trimming of outliers.
    """
    v, r = (np.asarray(a, dtype=np.float64) for a in (spread.between, spread.within))
    f = np.asarray(spread.n_trainings, dtype=np.float64) - 1
    log_v = np.log(np.maximum(v, np.maximum(r / 10, 1e-12)))  # a likelihood of exactly 0 says nothing

    def loss(theta: npt.NDArray[np.float64]) -> float:
        log_s0, log_d0 = np.clip(theta, (-9, -1), (0, 5))
        d0, x = np.exp(log_d0), log_v - np.log(np.exp(2 * log_s0) * spread.shape + r)
        like = special.gammaln((f + d0) / 2) - special.gammaln(f / 2) - special.gammaln(d0 / 2)
        like += f / 2 * (np.log(f / d0) + x) - (f + d0) / 2 * np.log1p(f / d0 * np.exp(x))
        penalty = ((log_s0 - start[0]) / S0_LOG_SD) ** 2 + ((log_d0 - start[1]) / D0_LOG_SD) ** 2
        return float(penalty / 2 - (spread.weight * like).sum())

    start = np.log([DEFAULT.s0, DEFAULT.d0])
    if not len(v):
        return DEFAULT
    best = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6})
    s0, d0 = np.exp(best.x)
    return Prior(float(s0), float(d0))
