"""A linear classifier over base and novel classes by mini-batch SGD (Hariharan and Girshick 2017), several at once.

A batch has rows of base and of novel classes in proportion to the numbers of *classes*, so that every class is as
frequent as any other on average: base rows without replacement, novel rows with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

_SPARE = 1.5  # drawn for each row that is wanted without replacement; repeated draws are left out
_MOST_SHARE = 0.4  # of a pool: beyond it a permutation costs less


class Parts(NamedTuple):
    """Rows of a batch from base and from novel classes."""

    base: int
    novel: int


def batch_parts(n_base: int, n_novel: int, size: int) -> Parts:
    """Divide a batch in proportion to the numbers of classes, rounded to the nearest, halves to even.

    >>> batch_parts(196, 311, 1000)
    Parts(base=387, novel=613)
    """
    base = round(n_base / (n_base + n_novel) * size)
    return Parts(base, size - base)


def draw_distinct(n: int, size: int, n_draws: int, generator: torch.Generator) -> Tensor:
    """Draw ``size`` different numbers in [0, n), ``n_draws`` times, each draw ascending.

    Numbers are drawn one after the other and repeated ones left out, which is what drawing without replacement is.

    Args:
        n: of the pool, ≥ size.
        size: in one draw.
        n_draws: how many.
        generator: of the CPU.

    Returns:
        (n_draws, size) int64.

    Raises:
        ValueError: when the pool is too small.
    """
    if size > n:
        raise ValueError(f"{size} different numbers were asked of {n}")
    if size > _MOST_SHARE * n:
        keys = torch.rand(n_draws, n, generator=generator)
        return keys.argsort(1)[:, :size].sort(1).values
    spare = int(_SPARE * size) + 8
    drawn = torch.randint(n, (n_draws, spare), generator=generator)
    value, order = torch.sort(drawn, stable=True, dim=1)
    is_repeat = torch.zeros_like(drawn, dtype=torch.bool)
    is_repeat.scatter_(
        1, order[:, 1:], value[:, 1:] == value[:, :-1]
    )  # stable: the first of equal ones stays
    place = (~is_repeat).cumsum(1)
    chosen = ~is_repeat & (place <= size)
    short = torch.nonzero(chosen.sum(1) < size).flatten()
    for row in short.tolist():  # next to never
        drawn[row, :size], chosen[row] = torch.randperm(n, generator=generator)[:size], False
        chosen[row, :size] = True
    return drawn[chosen].unflatten(0, (n_draws, size)).sort(1).values


class Sgd(NamedTuple):
    """SGD with momentum in torch's form, constant step size, weight decay on the bias too; the published values.

    Attributes:
        lr: step size, > 0.
        weight_decay: multiple of the weights added to the gradient, ≥ 0.
        momentum, dampening: with both at 0.9 a step is lr long, not ten times as long.
    """

    lr: float = 0.1
    weight_decay: float = 1e-3
    momentum: float = 0.9
    dampening: float = 0.9


class Linear(NamedTuple):
    """E linear classifiers: ``weight`` (E, K, D) and ``bias`` (E, K)."""

    weight: Tensor
    bias: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """(E, n, D) → (E, n, K)."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


def draw_linear(n_classes: int, dim: int, generators: Iterable[torch.Generator]) -> Linear:
    """Draw a linear layer's usual start, U(-1/√D, 1/√D), from one CPU generator per classifier, weight first."""
    drawn = [
        (torch.rand(n_classes, dim, generator=g), torch.rand(n_classes, generator=g)) for g in generators
    ]
    weight, bias = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    return Linear((2 * weight - 1) / dim**0.5, (2 * bias - 1) / dim**0.5)


@torch.no_grad()
def fit_softmax(start: Linear, batches: Iterable[tuple[Tensor, Tensor]], sgd: Sgd) -> Linear:
    """Minimise the mean cross-entropy, one step a batch; classifiers do not influence each other.

    Args:
        start: E classifiers; unchanged.
        batches: x (E, b, D) and int64 labels (E, b) in [0, K).
        sgd: step sizes.

    Returns:
        The E classifiers after the last batch.
    """
    weight, bias = start.weight.clone(), start.bias.clone()
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    blend = 1.0  # of the gradient: the first velocity is the bare gradient
    for x, labels in batches:
        error = torch.baddbmm(bias.unsqueeze(1), x, weight.mT).softmax(2)  # (E, b, K)
        error.scatter_add_(2, labels.unsqueeze(2), error.new_full((1, 1, 1), -1.0).expand(*labels.shape, 1))
        share = blend / labels.shape[1]
        velocity.mul_(sgd.momentum).add_(weight, alpha=blend * sgd.weight_decay)
        velocity.baddbmm_(error.mT, x, alpha=share)
        bias_velocity.mul_(sgd.momentum).add_(bias, alpha=blend * sgd.weight_decay)
        bias_velocity.add_(error.sum(1), alpha=share)
        weight.sub_(velocity, alpha=sgd.lr)
        bias.sub_(bias_velocity, alpha=sgd.lr)
        blend = 1.0 - sgd.dampening
    return Linear(weight, bias)
