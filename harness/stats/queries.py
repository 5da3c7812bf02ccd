"""How many queries a class: the variance of an accuracy split into that of episodes and that of queries (STATISTICS c.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.checks import vector


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
