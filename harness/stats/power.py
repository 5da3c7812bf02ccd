"""How small a difference can be seen, and how many episodes, seeds and queries it takes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats.checks import vector
from harness.stats.seeds import Crossed


def _reach(power: float, alpha: float) -> float:
    """How many standard errors a true difference must measure: 2.80 for 80% power at the 5% level."""
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"power and alpha must lie between 0 and 1, found {power:g} and {alpha:g}")
    return float(special.ndtri(1 - alpha / 2) + special.ndtri(power))


def _positive(delta: float) -> float:
    """Refuse a difference that is not positive."""
    if not delta > 0:
        raise ValueError(f"delta must be a positive fraction, found {delta:g}; 0.005 is half a point")
    return delta


def minimal_detectable_effect(standard_error: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Give the smallest true difference that the two-sided test finds with this power.

    Args:
        standard_error: of the paired difference, a fraction.
        power: chance to find it, in (0, 1).
        alpha: size of the test, in (0, 1).

    >>> round(minimal_detectable_effect(0.05 / 600**0.5), 4)
    0.0057
    """
    return _reach(power, alpha) * standard_error


def needed_episodes(sd_difference: float, delta: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Give the episodes after which a true difference ``delta`` is found with this power.

    Args:
        sd_difference: standard deviation of the paired differences over episodes, a fraction.
        delta: the true difference, a fraction > 0.
        power: chance to find it, in (0, 1).
        alpha: size of the test, in (0, 1).

    Returns:
        At least 2.

    Raises:
        ValueError: for a delta that is not positive.

    >>> needed_episodes(0.05, 0.005)
    785
    """
    return max(2, math.ceil((_reach(power, alpha) * sd_difference / _positive(delta)) ** 2))


def needed_seeds(parts: Crossed, delta: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Give the training seeds after which a true difference is found, on the same number of episodes.

    Solves delta = 2.80 SE for S with SE^2 = (sigma_seed^2 + sigma_residual^2/T)/S + sigma_episode^2/T.

    Args:
        parts: ``crossed`` of the seed-paired differences.
        delta: the true difference, a fraction > 0.
        power: chance to find it, in (0, 1).
        alpha: size of the test, in (0, 1).

    Returns:
        At least 2; None when the seed variance is unknown or no number of seeds suffices (the episodes alone
        leave too much error).

    Raises:
        ValueError: for a delta that is not positive.
    """
    goal = (_positive(delta) / _reach(power, alpha)) ** 2
    if parts.sigma_seed is None or parts.sigma_episode is None or parts.sigma_residual is None:
        return None
    room = goal - parts.sigma_episode**2 / parts.n_episodes
    per_seed = parts.sigma_seed**2 + parts.sigma_residual**2 / parts.n_episodes
    return max(2, math.ceil(per_seed / room)) if room > 0 else None


def needed_pairs(superiority: float = 0.75, power: float = 0.95, alpha: float = 0.05) -> int:
    """Give the paired trainings that show P(A > B) >= ``superiority`` (Noether 1987; Bouthillier et al. 2021).

    Args:
        superiority: the probability that one training of A beats one of B, in (0.5, 1].
        power: chance to find it, in (0, 1).
        alpha: size of the one-sided test, in (0, 1).

    Raises:
        ValueError: for a probability outside (0.5, 1].

    >>> needed_pairs()
    29
    """
    if not 0.5 < superiority <= 1:
        raise ValueError(f"superiority must lie in (0.5, 1], found {superiority:g}; try 0.75")
    z = special.ndtri(1 - alpha) + special.ndtri(power)
    return math.ceil((z / (math.sqrt(6) * (superiority - 0.5))) ** 2)


class QueryComponents(NamedTuple):
    """Var(a) = v_episode + v_query / (W Q), accuracies as fractions.

    Attributes:
        v_episode: variance between episodes, as with infinitely many queries; 0 when the data show none.
        v_query: variance of a single query within its episode (slightly high: queries differ in difficulty).
        n_way: W.
        n_query: queries per class, Q.
    """

    v_episode: float
    v_query: float
    n_way: int
    n_query: int


def query_components(accuracy: npt.ArrayLike, n_way: int, n_query: int) -> QueryComponents:
    """Split the variance of an accuracy into that of episodes and that of queries (after Lafargue et al. 2024).

    Args:
        accuracy: (T,) fractions in [0, 1], T >= 2.
        n_way: classes per episode, W.
        n_query: queries per class, Q; W Q >= 2.

    Raises:
        ValueError: for fewer than two episodes or two queries, NaN, or values outside [0, 1].
    """
    values, total = vector(accuracy), n_way * n_query
    if len(values) < 2 or total < 2:
        raise ValueError(
            f"variance components need two episodes of two queries, found {len(values)} of {total}"
        )
    v_query = float(np.mean(values * (1 - values))) * total / (total - 1)
    v_episode = max(0.0, float(values.var(ddof=1)) - v_query / total)
    return QueryComponents(v_episode, v_query, n_way, n_query)


def best_queries(components: QueryComponents, shot: int) -> float | None:
    """Give the queries per class that make the mean sharpest on a fixed number of images.

    Q* = sqrt(K v_query / (W v_episode)) minimises (K + Q)(v_episode + v_query / (W Q)). It is meant for lists
    drawn without replacement; Q = 15 keeps other lists comparable with papers.

    Args:
        components: of ``query_components``.
        shot: K, at least 1.

    Returns:
        Q*, not rounded; None when the episodes do not vary (then more queries are always better).

    Raises:
        ValueError: for a shot below 1.
    """
    if shot < 1:
        raise ValueError(f"shot must be at least 1, found {shot}")
    if components.v_episode == 0:
        return None
    return math.sqrt(shot * components.v_query / (components.n_way * components.v_episode))
