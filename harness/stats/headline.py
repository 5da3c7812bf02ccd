"""Which interval stands beside a mean in a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from harness.stats.checks import seed_matrix
from harness.stats.intervals import Interval, bootstrap_interval, sampler_interval
from harness.stats.seeds import MIN_SEEDS, crossed_interval

# Measured coverage of 95% intervals: with 5 values BCa 84% and t 95%, with 10 values 90% and 95%; from 20 on
# they agree, and where the mean nears 1 (skewed accuracies) BCa is at least as close from 20 to 100.
BOOTSTRAP_FROM, BOOTSTRAP_BELOW, BOOTSTRAP_ABOVE_MEAN = 20, 100, 0.98


def headline_interval(accuracy: npt.ArrayLike, rng: np.random.Generator, level: float = 0.95) -> Interval:
    """Pick and name the interval that a table prints for one row.

    - three training seeds or more: "crossed", over seeds and episodes;
    - else fewer than 100 episodes, or a mean above 0.98: "bootstrap" (BCa), but from 20 episodes on;
    - else "sampler", Student's t over episodes, comparable with what papers print.

    Args:
        accuracy: (S, T) fractions in [0, 1], every seed on the same episodes; (T,) is one seed. One or two
            seeds are averaged and the note says that the training variance is unknown.
        rng: used by the bootstrap alone.
        level: confidence, in (0, 1).

    Raises:
        ValueError: for NaN, values out of range, or another number of axes.
    """
    values = seed_matrix(accuracy)
    n_seeds, n_episodes = values.shape
    if n_seeds >= MIN_SEEDS:
        return crossed_interval(values, level)
    by_episode = values.mean(axis=0)
    few, high = n_episodes < BOOTSTRAP_BELOW, values.mean() > BOOTSTRAP_ABOVE_MEAN
    if n_episodes >= BOOTSTRAP_FROM and (few or high):
        chosen = bootstrap_interval(by_episode, rng, level)
    else:
        chosen = sampler_interval(by_episode, level)
    seeds = "one training seed" if n_seeds == 1 else f"{n_seeds} training seeds"
    note = "; ".join(filter(None, [chosen.note, f"{seeds}: training variance unknown"]))
    return replace(chosen, note=note)
