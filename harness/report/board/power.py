"""How many episodes and seeds it takes to tell two methods apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import stats
from harness.benchmarks.sampling import LIST_LENGTH
from harness.errors import ConfigError, StoreError
from harness.report.board import pairs
from harness.report.board.rows import Row
from harness.store import Store


@dataclass(frozen=True)
class Power:
    """What one setting says about a true difference of ``delta``.

    Attributes:
        setting, a, b: names.
        delta: the true difference, a fraction.
        sd_difference: standard deviation of the paired differences over episodes, a fraction.
        n_episodes, n_seeds: at hand.
        detectable: smallest true difference found with 80% power by what is at hand, a fraction.
        needed_episodes: for 80% power with these trained models (jointly: classes).
        needed_seeds: for 80% power when the training is repeated, on the episodes at hand; None where the seed
            variance is unknown (fewer than three common seeds) or the episodes alone leave too much error.
    """

    setting: str
    a: str
    b: str
    delta: float
    sd_difference: float
    n_episodes: int
    n_seeds: int
    detectable: float
    needed_episodes: int
    needed_seeds: int | None
    unit: str = "episodes"

    @property
    def sentence(self) -> str:
        """The answer in words."""
        points = f"{100 * self.delta:.2f} points"
        limit = LIST_LENGTH if self.unit == "episodes" else self.n_episodes
        beyond = f", more than the {limit:,} of a list" if self.needed_episodes > limit else ""
        seeds = {
            True: f"; {self.needed_seeds} training seeds on {self.n_episodes:,} {self.unit}",
            False: "; the seeds needed are unknown: run both with three common seeds (--seeds 0-2)",
        }[self.needed_seeds is not None]
        if self.needed_seeds is None and self.n_seeds > 1:
            seeds = f"; no number of seeds is enough on {self.n_episodes:,} {self.unit}"
        return (
            f"{self.setting}: a true difference of {points} between {self.a} and {self.b} takes "
            f"{self.needed_episodes:,} {self.unit}{beyond}{seeds}. Now {100 * self.detectable:.2f} points can be told."
        )


def power(store: Store, a: str, b: str, delta: float, settings: Sequence[str] | None = None) -> list[Power]:
    """Plan the comparison of two methods, or runs, on every setting that both have.

    Args:
        store: the database.
        a, b: method names, or the beginning of run ids.
        delta: the true difference to be found with 80% power at the 5% level, a fraction > 0.
        settings: only these; None for all.

    Raises:
        ConfigError: for a delta that is not positive, or a name that means nothing or several rows.
        StoreError: when there is nothing to pair, or one episode only.
    """
    if not 0 < delta <= 1:
        raise ConfigError(f"--delta {100 * delta:g}: expected points between 0 and 100, like --delta 0.5.")
    found = pairs.compare(store, a, b, settings, margin=delta)
    return [_power(pair.a, pair.b, delta) for pair in found]


def _power(a: Row, b: Row, delta: float) -> Power:
    first, second = pairs.paired_accuracy(a, b)
    difference = first - second  # (S, T)
    n_seeds, n_episodes = difference.shape
    parts = stats.crossed(difference)
    if parts.standard_error is None:
        raise StoreError(
            f"{a.label} and {b.label} share one episode on {a.setting}; run more with --episodes."
        )
    sd = float(difference.mean(axis=0).std(ddof=1))
    return Power(
        setting=a.setting,
        a=a.label,
        b=b.label,
        delta=delta,
        sd_difference=sd,
        n_episodes=n_episodes,
        n_seeds=n_seeds,
        detectable=stats.minimal_detectable_effect(parts.standard_error),
        needed_episodes=stats.needed_episodes(sd, delta),
        needed_seeds=stats.needed_seeds(parts, delta),
        unit=a.unit,
    )
