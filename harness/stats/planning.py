"""How many trainings and episodes a difference takes: the plan is simulated with the test itself (STATISTICS s.6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from harness.seeding import numpy_generator
from harness.stats.checks import FloatArray
from harness.stats.draws import LEAST_VARIANCE, chi_square, error_model, normal
from harness.stats.prior import Prior
from harness.stats.rows import Row

POWER = 0.8
N_DRAWS = 4_000
TRAININGS = (3, 5, 10, 20, 30, 50)
EPISODES = (600, 2_000, 10_000)


@dataclass(frozen=True)
class Pilot:
    """What two rows tell about runs to come; (2, B) and (2,) arrays hold the first and the second row.

    Attributes:
        seed_variance: (2, B) draws of the variance of one training, from its posterior.
        residual: (2,) variance of one training within one episode, T r.
        shared: variance of the difference over episodes that all trainings share, per episode.
        shape: (2,) g = m(1-m).
        is_trained: (2,) float64, 1 or 0.
        correlation: of the seed errors of the two means.
        prior: of the database.
        id: of the pair, it seeds the simulation.
    """

    seed_variance: FloatArray
    residual: FloatArray
    shared: float
    shape: FloatArray
    is_trained: FloatArray
    correlation: float
    prior: Prior
    id: str


def pilot(a: Row, b: Row, prior: Prior, n_draws: int = N_DRAWS) -> Pilot:
    """Draw what the runs so far leave open about two rows on one episode list.

    Raises:
        ValueError: for rows with unlike numbers of episodes, or one episode.
    """
    first, second = sorted((a, b), key=lambda row: row.id)
    model = error_model([first, second], prior)
    seed, id = model.moderated, f"{first.id}/{second.id}"
    rng = numpy_generator(0, "pilot", id)
    drawn = seed.tau2[:, None] * seed.df[:, None] / chi_square(seed.df, rng, n_draws)
    residual = seed.within * model.n_episodes
    seen = model.n_episodes * (model.episode[0, 0] + model.episode[1, 1] - 2 * model.episode[0, 1])
    return Pilot(
        seed_variance=np.maximum(drawn - seed.within[:, None], 0),
        residual=residual,
        shared=max(0.0, float(seen - (residual / seed.n_trainings).sum())),
        shape=np.array([first.shape, second.shape]),
        is_trained=np.array([first.is_trained, second.is_trained], dtype=np.float64),
        correlation=float(model.correlation[0, 1]),
        prior=prior,
        id=id,
    )


def reach(pilot: Pilot, n_trainings: int, n_episodes: float, level: float) -> FloatArray:
    """Simulate the plan: the true difference from which each simulated result would be claimed, (B,).

    New variances v and a new error are drawn for S trainings and T episodes, and the moderated test is applied at
    ``level``; so power at delta is the share of these below delta, and what is detectable is their quantile.

    Args:
        pilot: of the two rows.
        n_trainings: S of each trained row.
        n_episodes: T; ``math.inf`` asks what episodes alone can never buy.
        level: size of the test of this one pair, as the page uses it (``Pairs.pair_level``).
    """
    rng, n_draws = numpy_generator(0, "plan", pilot.id), pilot.seed_variance.shape[1]
    n, prior = n_trainings, pilot.prior
    r = (pilot.residual / n_episodes)[:, None]  # (2, 1)
    own = pilot.shared / n_episodes + float(r.sum()) / n
    v = np.zeros_like(pilot.seed_variance)
    if n > 1:
        v = (pilot.seed_variance + r) * chi_square(np.full(2, n - 1.0), rng, n_draws) / (n - 1)  # (2, B)
    f = prior.d0 + n - 1
    tau2 = (prior.d0 * (prior.s0**2 * pilot.shape[:, None] + r) + (n - 1) * v) / f * pilot.is_trained[:, None]
    se2 = np.maximum(own + _of_difference(np.maximum(tau2 - r, 0) / n, pilot.correlation), LEAST_VARIANCE)
    df = np.maximum(1, se2**2 / (((tau2 / n) ** 2 / f).sum(axis=0) + own**2 / max(n_episodes - 1, 1) + 1e-40))
    true_sd = np.sqrt(own + _of_difference(pilot.seed_variance / n, pilot.correlation))
    critical = special.stdtrit(df, 1 - level / 2) * np.sqrt(se2)
    return np.asarray(critical - true_sd * normal(rng, 1, n_draws)[0])


def _of_difference(variance: FloatArray, correlation: float) -> FloatArray:
    """Variance of the difference of two correlated errors, (2, B) → (B,)."""
    return np.asarray(np.maximum(variance.sum(axis=0) - 2 * correlation * np.sqrt(variance.prod(axis=0)), 0))


def power(pilot: Pilot, n_trainings: int, n_episodes: float, delta: float, level: float) -> float:
    """Give the chance that two rows ``delta`` apart are told apart, in the right order, by this plan."""
    return float((reach(pilot, n_trainings, n_episodes, level) <= delta).mean())


def detectable(
    pilot: Pilot, n_trainings: int, n_episodes: float, level: float, power: float = POWER
) -> float:
    """Give the smallest true difference that this plan finds with ``power``, a fraction."""
    return float(np.quantile(reach(pilot, n_trainings, n_episodes, level), power))


class Cost(NamedTuple):
    """Hours of both rows together: of one training each, and of one episode each."""

    fit_hours: float
    episode_hours: float

    def hours(self, n_trainings: int, n_episodes: int) -> float:
        """S (fit hours + T × hours per episode)."""
        return n_trainings * (self.fit_hours + n_episodes * self.episode_hours)


class Plan(NamedTuple):
    """Trainings and episodes of each row, the simulated power, and the hours of both rows."""

    n_trainings: int
    n_episodes: int
    power: float
    hours: float


def cheapest_plan(
    pilot: Pilot,
    delta: float,
    level: Callable[[int], float],
    cost: Cost,
    trainings: Sequence[int] = TRAININGS,
    episodes: Sequence[int] = EPISODES,
) -> Plan | None:
    """Find the cheapest plan with 80% power for a true difference; None where none of those asked has it.

    Args:
        pilot: of the two rows.
        delta: the true difference, a fraction > 0.
        level: size of the test of this pair by the number of trainings (smaller past the plan, s.9).
        cost: in hours.
        trainings: numbers of trainings to try.
        episodes: numbers of episodes to try.

    Raises:
        ValueError: for a delta that is not positive.
    """
    if not delta > 0:
        raise ValueError(f"delta must be a positive fraction, found {delta:g}; 0.005 is half a point")
    asked = sorted((cost.hours(n, t), n, t) for n in trainings for t in episodes)
    for hours, n, t in asked:
        found = power(pilot, n, t, delta, level(n))
        if found >= POWER:
            return Plan(n, t, found, hours)
    return None


def episodes_can_decide(pilot: Pilot, n_trainings: int, delta: float, level: float) -> bool:
    """Say whether any number of episodes gives 80% power with these trainings (T → ∞)."""
    return power(pilot, n_trainings, math.inf, delta, level) >= POWER
