"""Which of two trained models is better on other episodes: the checkpoint scope, never mixed into a table (STATISTICS c.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.stats.checks import NO_SPREAD, FloatArray, vector
from harness.stats.pairs import MARGIN, Word
from harness.stats.significance import (
    equivalence_p,
    flip_generator,
    sign_flip_p,
    t_value,
    two_sided_p,
    wilcoxon_p,
)


@dataclass(frozen=True)
class Checkpoints:
    """The first model minus the second over the episodes of one list; fractions.

    Attributes:
        n_episodes: T.
        mean_a: of the first.
        mean_b: of the second.
        difference: mean_a - mean_b.
        standard_error: of the difference over episodes; 0 where it does not vary.
        half_width: of its 95% interval (Student); 0 where it does not vary.
        sd_difference: standard deviation over episodes.
        correlation: Pearson r over episodes; None where a side does not vary.
        t: difference / standard error; inf where the differences do not vary, 0 where they are all zero.
        p: two-sided, of the t test; where the differences do not vary, of the sign test: 2^(1-T).
        p_permutation: two-sided, random sign flips: mean 0 under symmetry.
        p_wilcoxon: two-sided, signed ranks with Pratt's zeros: a companion about the median, never a verdict.
        p_equivalence: of a difference beyond ± half a point.
        word: on the first model.
    """

    n_episodes: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error: float
    half_width: float
    sd_difference: float
    correlation: float | None
    t: float
    p: float
    p_permutation: float
    p_wilcoxon: float
    p_equivalence: float
    word: Word


def compare_checkpoints(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    ids: tuple[str, str],
    margin: float = MARGIN,
    alpha: float = 0.05,
    n_flips: int = 10_000,
) -> Checkpoints:
    """Compare two trained models, d_t = a_t - b_t.

    Args:
        a: (T,) accuracies in [0, 1] of the first, T >= 2.
        b: (T,) those of the second on the same episodes.
        ids: names of the two; the sign flips are drawn from a digest of them, in either order.
        margin: differences within ± margin count as tied, a fraction.
        alpha: size of every test.
        n_flips: sign flips of the permutation test.

    Raises:
        ValueError: for lists of unlike length, fewer than two episodes, NaN, or values outside [0, 1].
    """
    first, second = vector(a, "the first accuracy"), vector(b, "the second accuracy")
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"paired episodes must match one to one and be two or more, found {len(first)} and {len(second)}; "
            "keep the common prefix of the episode list"
        )
    d, n = first - second, len(first)
    sd, mean = float(d.std(ddof=1)), float(d.mean())
    se = 0.0 if sd < NO_SPREAD else sd / n**0.5
    test = np.array(mean), np.array(se), np.array(n - 1.0), np.array(n)
    p, beyond = float(two_sided_p(*test)), float(equivalence_p(*test, margin))
    return Checkpoints(
        n_episodes=n,
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=mean,
        standard_error=se,
        half_width=float(special.stdtrit(n - 1, 1 - alpha / 2)) * se,
        sd_difference=sd,
        correlation=_correlation(first, second),
        t=float(t_value(test[0], test[1])),
        p=p,
        p_permutation=sign_flip_p(d, flip_generator(*ids), n_flips),
        p_wilcoxon=wilcoxon_p(d),
        p_equivalence=beyond,
        word=_word(mean, p, beyond, alpha),
    )


def _word(difference: float, p: float, p_equivalence: float, alpha: float) -> Word:
    """Significance first, then equivalence, else undecided."""
    if p < alpha:
        return "better" if difference > 0 else "worse"
    return "tied" if p_equivalence < alpha else "undecided"


def _correlation(a: FloatArray, b: FloatArray) -> float | None:
    """Pearson r, None where a side does not vary."""
    return None if min(a.std(), b.std()) < NO_SPREAD else float(np.corrcoef(a, b)[0, 1])
