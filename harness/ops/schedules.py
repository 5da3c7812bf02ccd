"""Learning rates as functions of the step; the caller writes them into its optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence


def warmup_cosine(
    iteration: int, *, base: float, n_warmup: int, n_total: int, divisor: float = 16.0, floor: float = 1e-6
) -> float:
    """Rise linearly from base / divisor to base, then fall along half a cosine to ``floor``.

    Liu et al. (2020) change the rate after the step with the index of the iteration just done, so their
    iteration t ≥ 1 runs at the value for t − 1 and iteration 0 at the value for 0.

    Args:
        iteration: counted from 0, in [0, n_total].
        base: highest rate, > 0 (published: 3e-3).
        n_warmup: iterations of the rise, in [1, n_total).
        n_total: iterations of the whole training.
        divisor: base / divisor is the rate at iteration 0.
        floor: rate at ``n_total``.

    Returns:
        The learning rate.

    >>> warmup_cosine(0, base=1.6, n_warmup=10, n_total=30, floor=0.0)
    0.1
    >>> warmup_cosine(20, base=1.6, n_warmup=10, n_total=30, floor=0.0)
    0.8
    """
    if iteration <= n_warmup:
        return base / divisor * (1 + (divisor - 1) * iteration / n_warmup)
    done = (iteration - n_warmup) / (n_total - n_warmup)
    return floor + (base - floor) * (1 + math.cos(math.pi * done)) / 2


def milestone_decay(epoch: int, *, base: float, milestones: tuple[tuple[int, float], ...]) -> float:
    """Multiply the rate by a factor once so many epochs are done.

    Args:
        epoch: counted from 0.
        base: rate of the first epoch, > 0.
        milestones: pairs (epochs done, factor); BML uses ((50, 0.06), (70, 0.2)).

    Returns:
        The learning rate.

    >>> milestone_decay(50, base=0.1, milestones=((50, 0.06), (70, 0.2)))
    0.006
    """
    return base * math.prod(factor for done, factor in milestones if epoch >= done)


def cosine_cycles(epoch: float, *, cycles: Sequence[tuple[int, float]]) -> float:
    """Fall along half a cosine to 0, once in each cycle.

    Args:
        epoch: counted from 0, fractions for steps within one; below the sum of the cycles.
        cycles: (epochs ≥ 1, rate at its beginning > 0) of each, in order (Dhillon et al. 2020: 40 of 0.1, 80 of 0.01).

    Returns:
        The learning rate.

    >>> [round(cosine_cycles(e, cycles=((2, 0.1), (4, 0.01))), 4) for e in (0, 1, 2, 4, 6)]
    [0.1, 0.05, 0.01, 0.005, 0.0]
    """
    for n, base in cycles:
        if epoch < n:
            return base * (1 + math.cos(math.pi * epoch / n)) / 2
        epoch -= n
    return 0.0


def periodic_decay(epoch: int, *, base: float, every: int, factor: float) -> float:
    """Multiply the rate by ``factor`` after every ``every`` epochs.

    Args:
        epoch: counted from 0.
        base: rate of the first epoch, > 0.
        every: epochs between two changes, ≥ 1 (prototypical networks: 20).
        factor: in (0, 1] (prototypical networks: 0.5).

    Returns:
        The learning rate.

    >>> periodic_decay(40, base=1e-3, every=20, factor=0.5)
    0.00025
    """
    return base * factor ** (epoch // every)


def stepped_decay(
    epoch: int, *, base: float, every: int, factor: float, n_warmup: int = 0, warmup: float = 0.01
) -> float:
    """Multiply the rate by ``factor`` after every ``every`` epochs, beginning with a constant small rate.

    Args:
        epoch: counted from 0.
        base: rate after the warm-up, > 0 (low-shot representations: 0.1).
        every: epochs between two changes, ≥ 1 (30).
        factor: in (0, 1] (0.1).
        n_warmup: epochs at ``warmup``, ≥ 0; they count as epochs of the decay.
        warmup: > 0.

    Returns:
        The learning rate.

    >>> [round(stepped_decay(e, base=0.1, every=2, factor=0.1, n_warmup=1), 4) for e in range(4)]
    [0.01, 0.1, 0.01, 0.01]
    """
    return warmup if epoch < n_warmup else periodic_decay(epoch, base=base, every=every, factor=factor)
