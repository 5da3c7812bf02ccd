"""What simulations count: false claims, power, coverage. The tests bound these, `make calibration` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from worlds import N_DRAWS, Array, databases, probit_world, seed_sds, table, world

from harness import stats
from harness.stats import Prior


class Claims(NamedTuple):
    """Over ``n`` tables: those with a false claim, those whose ranks are all covered, share of true orders claimed."""

    n: int
    false: int
    covered: int
    power: float


def claims(means: Sequence[float] | Array, seeds: Sequence[int], n: int, n_episodes: int = 600) -> Claims:
    """Judge n made-up tables; a claim is false where the truth is equal or the other way round."""
    rng = np.random.default_rng([2024, len(means), n_episodes, *seeds])
    priors, truth = databases(rng), np.sign(np.round(np.subtract.outer(means, means), 12))
    m, false, covered, found = np.asarray(means), 0, 0, 0.0
    lowest = 1 + (m[None] > m[:, None]).sum(axis=1)
    highest = len(m) - (m[None] < m[:, None]).sum(axis=1)
    for k in range(n):
        rows = table(world(rng, means, seeds, n_episodes), n_planned=10)
        pairs = stats.judge(rows, priors[k % len(priors)], n_draws=N_DRAWS).pairs
        better = pairs.is_better
        false += bool((better & (truth <= 0)).any())
        found += (better & (truth > 0)).sum() / max(1, (truth > 0).sum())
        covered += bool(((pairs.ranks.low <= lowest) & (pairs.ranks.high >= highest)).all())
    return Claims(n, false, covered, found / n)


def pair_p(n_trainings: int, n: int) -> Array:
    """p of n pairs that do not differ."""
    rng = np.random.default_rng([3, n_trainings])
    priors = databases(rng)
    judged = (
        stats.judge(table(world(rng, (0.6, 0.6), (n_trainings,) * 2)), priors[k % 30], n_draws=N_DRAWS)
        for k in range(n)
    )
    return np.array([family.pairs.p[0, 1] for family in judged])


class Coverage(NamedTuple):
    """Over ``n`` rows: intervals that hold the truth, their mean half-width, and the extreme ends."""

    n: int
    covered: int
    half_width: float
    lowest: float
    highest: float


def headline_coverage(mean: float, n_trainings: int, n: int, n_draws: int = N_DRAWS) -> Coverage:
    """Count how often the interval beside a mean holds it."""
    rng = np.random.default_rng([4, int(1000 * mean), n_trainings])
    priors, ends = databases(rng), []
    for k in range(n):
        rows = table([probit_world(rng, mean, n_trainings)])
        found = stats.judge(rows, priors[k % 30], n_draws=n_draws).headline
        ends.append((found.low[0], found.high[0]))
    low, high = np.array(ends).T
    covered = int(((low <= mean) & (mean <= high)).sum())
    return Coverage(n, covered, float((high - low).mean() / 2), float(low.min()), float(high.max()))


class Shared(NamedTuple):
    """Pairs of variants of the same trainings: claimed at 0 and at 1 point, and half-widths with and without names."""

    false: int
    found: int
    half_width: Array
    half_width_unnamed: Array


def shared_trainings(correlation: float, n: int) -> Shared:
    """Judge two variants of three trainings, n times."""
    rng = np.random.default_rng([5, int(100 * correlation)])
    priors, claimed, widths = databases(rng), np.zeros(2, dtype=int), []
    for k in range(n):
        sds = np.repeat(seed_sds(rng, np.array([0.6])), 2)
        for c, delta in enumerate((0.0, 0.01)):
            data = world(rng, (0.6 + delta, 0.6), (3, 3), sds=sds, correlation=correlation)
            named, unnamed = (
                stats.judge(table(data, fits), priors[k % 30], n_draws=N_DRAWS).pairs
                for fits in ([("a", "b", "c")] * 2, None)
            )
            claimed[c] += named.p[0, 1] <= 0.05
            widths.append((named.half_width[0, 1], unnamed.half_width[0, 1]))
    return Shared(int(claimed[0]), int(claimed[1]), *np.array(widths).T)


def plans_that_succeed(n: int, delta: float = 0.01) -> tuple[int, int]:
    """Plan n times from a pilot of 3 trainings on 600 episodes and carry it out: (plans made, plans that succeed)."""
    rng = np.random.default_rng(6)
    priors, made, succeeded = databases(rng), 0, 0
    trainings, cost = (3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30), stats.Cost(1.0, 0.0)
    while made < n:
        sds, prior = seed_sds(rng, np.array([0.6, 0.6])), priors[made % 30]
        first = stats.pilot(*table(world(rng, (0.6, 0.6), (3, 3), sds=sds)), prior, n_draws=600)
        plan = stats.cheapest_plan(first, delta, lambda _: 0.05, cost, trainings, (2000,))
        if plan is not None:
            data = world(rng, (0.6 + delta, 0.6), (plan.n_trainings,) * 2, 2000, sds)
            pairs = stats.judge(table(data, n_planned=30), prior, n_draws=N_DRAWS).pairs
            made, succeeded = made + 1, succeeded + bool(pairs.is_better[0, 1])
    return made, succeeded


def published_flagged(n_trainings: int, n: int, n_draws: int = N_DRAWS) -> int:
    """Published numbers of the very same method that are said to differ."""
    rng = np.random.default_rng([8, n_trainings])
    priors, flagged = databases(rng), 0
    for k in range(n):
        sds = seed_sds(rng, np.array([0.6]))
        row = table(world(rng, (0.6,), (n_trainings,), sds=sds))[0]
        theirs = rng.normal(0.6, np.hypot(sds[0], 0.006 / 1.96))
        flagged += not stats.predict_published(row, priors[k % 30], theirs, 0.006, n_draws=n_draws).agrees()
    return flagged


def claimed_at_some_look(n: int, alphas: Sequence[float]) -> int:
    """Equal pairs claimed at 3, 5 or 10 trainings, each look at its size."""
    rng, claimed = np.random.default_rng(9), 0
    priors = databases(rng)
    for k in range(n):
        data = world(rng, (0.6, 0.6), (10, 10))
        looks = (
            stats.judge(table([y[:look] for y in data]), priors[k % 30], n_draws=N_DRAWS).pairs.p[0, 1]
            for look in stats.LOOKS
        )
        claimed += any(p <= alpha for p, alpha in zip(looks, alphas, strict=True))
    return claimed


def false_ties(n: int) -> int:
    """Tables of ten rows and 20 trainings where some pair exactly the margin apart is called tied."""
    rng, false = np.random.default_rng(10), 0
    priors, m = databases(rng), np.repeat([0.6, 0.605], 5)
    apart = np.abs(np.subtract.outer(m, m)) > 0.004
    for k in range(n):
        rows = table(world(rng, m, [20] * 10), n_planned=20)
        words = stats.judge(rows, priors[k % 30], n_draws=N_DRAWS).pairs.words
        false += bool((apart & (words == "tied")).any())
    return false


def half_width(data: Sequence[Array], prior: Prior) -> float:
    """Median half-width of all differences of a table."""
    pairs = stats.judge(table(data), prior, n_draws=2000).pairs
    return float(np.median(pairs.half_width[np.triu_indices(len(data), 1)]))
