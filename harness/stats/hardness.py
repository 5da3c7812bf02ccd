"""How hard an episode is to a fixed extractor, and how a method's accuracy falls with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.stats.checks import NO_SPREAD, FloatArray, finite_array, vector


def episode_hardness(probability: npt.ArrayLike, label: npt.ArrayLike) -> FloatArray:
    """Compute Omega, the mean log odds against the true class (Dhillon et al. 2020, eq. 9).

    Omega = mean over queries of log((1 - p(y|x)) / p(y|x)), with p the softmax of cosine similarities between
    normalised outputs of a fixed, generic extractor and the class centres of the support set.

    Args:
        probability: (E, n_query, W) strictly between 0 and 1, rows summing to 1.
        label: (n_query,) or (E, n_query) int in [0, W), true labels; -1 at a place without a query.

    Returns:
        (E,) float64 in nats, higher is harder; 0 where the true class has even odds.

    Raises:
        ValueError: when shapes do not fit, rows do not sum to 1, or odds are infinite.

    >>> episode_hardness([[[0.5, 0.5], [0.5, 0.5]]], [0, 1]).tolist()
    [0.0]
    """
    p = finite_array(probability, "probabilities", 0.0, 1.0)
    true = np.asarray(label)
    if p.ndim != 3 or true.shape not in (p.shape[1:2], p.shape[:2]):
        raise ValueError(f"probabilities must be (E, n_query, W) for {true.shape} labels, found {p.shape}")
    if not np.issubdtype(true.dtype, np.integer) or true.min() < -1 or true.max() >= p.shape[2]:
        raise ValueError(f"labels must be integers in [0, {p.shape[2]})")
    if np.abs(p.sum(axis=2) - 1).max() > 1e-3:
        raise ValueError("probabilities of a query must sum to 1; give the softmax, not the scores")
    true = np.broadcast_to(true, p.shape[:2])  # (E, n_query)
    is_true = true[:, :, None] == np.arange(p.shape[2])  # (E, n_query, W)
    asked = true >= 0
    if not asked.any(axis=1).all():
        raise ValueError("an episode without queries has no hardness")
    of_true, of_others = (
        np.where(asked, np.where(of, p, 0.0).sum(axis=2), 0.5) for of in (is_true, ~is_true)
    )  # the latter is more exact than 1 - p where p nears 1
    if not (of_true.min() > 0 and of_others.min() > 0):
        raise ValueError("a probability of exactly 0 or 1 has infinite odds; keep more digits of the softmax")
    return np.asarray(np.log(of_others / of_true).mean(axis=1, where=asked))


@dataclass(frozen=True)
class HardnessLine:
    """Accuracy as a line over hardness, least squares over episodes.

    Attributes:
        slope: accuracy (fraction) per nat, negative for a method that finds hard what the extractor does.
        intercept: accuracy at hardness 0, a fraction.
        slope_error: standard error of the slope, accuracy per nat.
        correlation: Pearson r.
        easiest: smallest hardness of the list, nats.
        hardest: largest hardness of the list, nats.
        area: area under the line from easiest to hardest, divided by that range: a fraction.
    """

    slope: float
    intercept: float
    slope_error: float
    correlation: float
    easiest: float
    hardest: float
    area: float


def hardness_line(accuracy: npt.ArrayLike, hardness: npt.ArrayLike) -> HardnessLine:
    """Fit the line by which methods are compared over hardness (Dhillon et al. 2020).

    Args:
        accuracy: (T,) fractions in [0, 1], T >= 3.
        hardness: (T,) nats, of the same episodes.

    Raises:
        ValueError: for unequal lengths, fewer than three episodes, a hardness that does not vary, NaN, or
            accuracies outside [0, 1].
    """
    values = vector(accuracy)
    omega = vector(hardness, "hardness", -np.inf, np.inf)
    if len(values) != len(omega) or len(values) < 3:
        raise ValueError(
            f"the line needs three episodes or more with both values, found {len(values)} accuracies "
            f"and {len(omega)} hardnesses"
        )
    if omega.std() < NO_SPREAD:
        raise ValueError("all episodes are equally hard, so no line can be fitted over hardness")
    fit = stats.linregress(omega, values)
    easiest, hardest = float(omega.min()), float(omega.max())
    return HardnessLine(
        slope=float(fit.slope),
        intercept=float(fit.intercept),
        slope_error=float(fit.stderr),
        correlation=float(fit.rvalue),
        easiest=easiest,
        hardest=hardest,
        area=float(fit.intercept + fit.slope * (easiest + hardest) / 2),
    )
