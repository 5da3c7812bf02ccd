"""Our number beside a published one."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import special

from harness.stats.checks import check_level


class PublishedGap(NamedTuple):
    """Ours minus theirs.

    Attributes:
        gap: a fraction.
        standard_error: of the gap, a fraction; None when either side has no interval.
        z: gap / standard error; None when that error is unknown or zero.
    """

    gap: float
    standard_error: float | None
    z: float | None


def published_gap(
    mean: float,
    standard_error: float | None,
    published_mean: float,
    published_half_width: float | None,
    level: float = 0.95,
) -> PublishedGap:
    """Measure the gap to a published mean, z = (m - m_pub) / sqrt(SE^2 + SE_pub^2).

    Episodes differ, so the comparison is unpaired; whether the protocols allow it is not decided here.

    Args:
        mean: ours, a fraction in [0, 1].
        standard_error: ours, a fraction, or None.
        published_mean: theirs, a fraction in [0, 1].
        published_half_width: theirs, a fraction, or None where the paper prints no interval.
        level: confidence of the published interval, in (0, 1).

    Raises:
        ValueError: for means outside [0, 1] or negative errors.

    >>> round(published_gap(0.51, 0.003, 0.50, 0.0078).z, 2)
    2.01
    """
    for name, value in (("our mean", mean), ("the published mean", published_mean)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be a fraction in [0, 1], found {value:g}; divide percent by 100")
    for name, error in (("standard error", standard_error), ("published half-width", published_half_width)):
        if error is not None and not 0 <= error < math.inf:
            raise ValueError(f"the {name} must be finite and not negative, found {error:g}")
    gap = mean - published_mean
    if standard_error is None or published_half_width is None:
        return PublishedGap(gap, None, None)
    published_error = published_half_width / float(special.ndtri((1 + check_level(level)) / 2))
    error = math.hypot(standard_error, published_error)
    return PublishedGap(gap, error, gap / error if error else None)
