"""Would one more training of the same method land on a published number (STATISTICS s.8)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from harness.seeding import numpy_generator
from harness.stats.checks import FloatArray
from harness.stats.draws import LEAST_VARIANCE, chi_square
from harness.stats.moderation import moderate
from harness.stats.prior import Prior
from harness.stats.rows import Row

N_DRAWS = 20_000
BEST_OF = {3: 0.85, 5: 1.16, 10: 1.54}  # how many seed sds the best of k lies above the mean
NORMAL_95 = 1.959963984540054


class Prediction(NamedTuple):
    """A published mean beside what our runs predict for it, fractions.

    Attributes:
        gap: ours minus theirs.
        half_width: 95% of honest repetitions lie within ± this of ours.
        p: of a gap at least as large, two-sided.
        best_of: the smallest k whose best-of-k would bring the gap inside, where theirs is too high; else None.
        is_borrowed: their error over episodes is taken from our episodes, as they print none.
    """

    gap: float
    half_width: float
    p: float
    best_of: int | None
    is_borrowed: bool

    def agrees(self, alpha: float = 0.05) -> bool:
        """Whether the gap is what repetition explains."""
        return self.p > alpha


def predict_published(
    row: Row,
    prior: Prior,
    published: float,
    half_width: float | None,
    n_episodes: int | None = None,
    alpha: float = 0.05,
    n_draws: int = N_DRAWS,
) -> Prediction:
    """Test a published mean as one more training of the same method, on their episodes.

    Var = our SE^2 + sigma_seed^2 at their mean (our posterior) + (half-width / 1.96)^2; theirs is one training
    unless stated, and protocols are not judged here.

    Args:
        row: ours, T >= 2.
        prior: of the database.
        published: their mean, a fraction in [0, 1].
        half_width: their 95% half-width over episodes, a fraction; None where the paper prints none.
        n_episodes: their T, needed without a half-width; by default ours.
        alpha: size of the test.
        n_draws: of the seed variance.

    Raises:
        ValueError: for a mean outside [0, 1], a negative half-width, or one episode.
    """
    if not 0 <= published <= 1:
        raise ValueError(f"the published mean must lie in [0, 1], found {published:g}; divide percent by 100")
    if half_width is not None and not half_width >= 0:
        raise ValueError(f"the published half-width must not be negative, found {half_width:g}")
    if row.n_episodes < 2:
        raise ValueError("one episode predicts nothing; give the row two or more")
    episode = float(row.by_episode.var(ddof=1))
    borrowed = episode / (n_episodes or row.n_episodes)
    theirs = borrowed if half_width is None else (half_width / NORMAL_95) ** 2
    ours = _seed_variance(row, prior, n_draws)  # (B,)
    again = ours * published * (1 - published) / row.shape
    sd = np.sqrt(episode / row.n_episodes + ours / row.n_trainings + again + theirs + LEAST_VARIANCE)
    gap = row.mean - published
    best_of = _best_of(published - row.mean, np.sqrt(again), sd, alpha)
    return Prediction(gap, _reach(sd, alpha), _p(np.array(abs(gap)), sd), best_of, half_width is None)


def _seed_variance(row: Row, prior: Prior, n_draws: int) -> FloatArray:
    """Draw the variance of one training from its posterior: (B,)."""
    seed = moderate([row], prior)
    rng = numpy_generator(0, "published", row.id)
    drawn = seed.tau2[0] * seed.df[0] / chi_square(seed.df, rng, n_draws)[0]
    return np.asarray(np.maximum(drawn - seed.within[0], 0))


def _p(gap: FloatArray, sd: FloatArray) -> float:
    """Two-sided p of a gap, a number or one for each draw, under the drawn standard deviations."""
    return float(2 * special.ndtr(-gap / sd).mean())


def _reach(sd: FloatArray, alpha: float) -> float:
    """The gap whose p is alpha."""
    top = 2 * float(sd.max()) * NORMAL_95 / alpha
    return float(optimize.brentq(lambda gap: _p(np.array(gap), sd) - alpha, 0, top))


def _best_of(excess: float, seed_sd: FloatArray, sd: FloatArray, alpha: float) -> int | None:
    """Find the smallest k whose best-of-k explains an excess that p alone does not."""
    if excess <= 0 or _p(np.array(excess), sd) > alpha:
        return None
    left = {k: np.maximum(excess - shift * seed_sd, 0) for k, shift in BEST_OF.items()}
    return next((k for k, gap in left.items() if _p(gap, sd) > alpha), None)
