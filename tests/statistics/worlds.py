"""Made-up worlds in which the truth is known: seeds and episodes vary as in the runs that come with the project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special, stats

from harness.stats import Prior, Row, Spread, fit_prior, summarise

Array = np.ndarray[Any, Any]

WORLD = Prior(0.0192, 4.14)  # the plain fit of the shipped rows
EPISODE, INTERACTION, RESIDUAL = (
    0.060,
    0.027,
    0.043,
)  # sds over episodes: shared, of a method, of one training
N_QUERY = 75
N_DRAWS = 400


def seed_sds(rng: np.random.Generator, mean: Array) -> Array:
    """Seed sds of rows: root of scaled inverse chi-squares, times sqrt(m(1-m))."""
    scale = WORLD.s0**2 * WORLD.d0 / rng.chisquare(WORLD.d0, len(mean))
    return np.sqrt(scale * mean * (1 - mean))


def world(
    rng: np.random.Generator,
    means: Sequence[float] | Array,
    seeds: Sequence[int],
    n_episodes: int = 600,
    sds: Array | None = None,
    correlation: float = 0.0,
) -> list[Array]:
    """Accuracies of M rows, (S_m, T) each, multiples of 1/75; seed effects correlate between rows."""
    sds = seed_sds(rng, np.asarray(means)) if sds is None else sds
    shared, common = rng.normal(0, EPISODE, n_episodes), rng.standard_normal(max(seeds))
    rows = []
    for mean, n, sd in zip(means, seeds, sds, strict=True):
        own = rng.standard_normal(n)
        effect = sd * (np.sqrt(correlation) * common[:n] + np.sqrt(1 - correlation) * own)
        method = mean + shared + rng.normal(0, INTERACTION, n_episodes)
        y = method + effect[:, None] + rng.normal(0, RESIDUAL, (n, n_episodes))
        rows.append(np.clip(np.round(N_QUERY * y), 0, N_QUERY) / N_QUERY)
    return rows


def table(
    data: Sequence[Array], fits: Sequence[Sequence[str]] | None = None, n_planned: int = 3
) -> list[Row]:
    """The rows of a table."""
    return [
        summarise(f"row{m:02d}", y, N_QUERY, None if fits is None else fits[m], n_planned=n_planned)
        for m, y in enumerate(data)
    ]


def probit_world(rng: np.random.Generator, mean: float, n_trainings: int, n_episodes: int = 600) -> Array:
    """Accuracies (S, T) of one row whose true mean is exact however near 1: binomial counts on a probit scale."""
    sd = seed_sds(rng, np.array([mean]))[0] / stats.norm.pdf(special.ndtri(mean))
    shared, own = {0.6: (0.2, 0.1), 0.9: (0.35, 0.15), 0.98: (0.6, 0.2)}[mean]
    centre = special.ndtri(mean) * np.sqrt(1 + sd**2 + shared**2 + own**2)
    of_training = sd * rng.standard_normal((n_trainings, 1))
    of_episode = rng.normal(0, shared, n_episodes) + rng.normal(0, own, (n_trainings, n_episodes))
    return rng.binomial(N_QUERY, special.ndtr(centre + of_training + of_episode)) / N_QUERY


def database(rng: np.random.Generator, n_rows: int = 56, n_episodes: int = 2000) -> Prior:
    """The prior that a database of other rows, three seeds each, gives."""
    mean = rng.uniform(0.35, 0.95, n_rows)
    r = np.full(n_rows, RESIDUAL**2 / n_episodes)
    v = (seed_sds(rng, mean) ** 2 + r) * rng.chisquare(2, n_rows) / 2
    fitted = fit_prior(Spread(v, r, mean * (1 - mean), np.full(n_rows, 3), np.ones(n_rows)))
    return fitted._replace(n_rows=n_rows, n_clusters=n_rows)


def databases(rng: np.random.Generator, n: int = 30) -> list[Prior]:
    """Several of them: what is learnt from a database varies too."""
    return [database(rng) for _ in range(n)]
