"""Multinomial logistic regression at its optimum, for many episodes at once.

The weights are a combination of the support (V = B·X), so Newton's method runs on coefficients through the Gram matrix:
what an episode costs does not depend on the length of the features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_NEWTON_STEPS, _CONJUGATE_STEPS, _HALVINGS = 50, 60, 20


class Logistic(NamedTuple):
    """Classifiers on the span of their support.

    Attributes:
        coefficient: (E, n, W) of the support.
        bias: (E, W), mean 0.
    """

    coefficient: Tensor
    bias: Tensor

    def scores(self, kernel: Tensor) -> Tensor:
        """(E, Q, n) inner products of queries with the support → (E, Q, W)."""
        return kernel @ self.coefficient + self.bias.unsqueeze(1)


def fit_logistic(kernel: Tensor, target: Tensor, c: float = 1.0, tolerance: float = 1e-7) -> Logistic:
    """Minimise ½|V|² + c·Σ cross-entropy; the bias is free.

    Newton steps solved by conjugate gradients, halved where they go too far, in float64; an episode that has arrived
    stays as it is.

    Args:
        kernel: (E, n, n) float, inner products of the support.
        target: (E, n, W) float, one-hot.
        c: weight of the data, > 0.
        tolerance: length of the gradient, relative to the longest image, at which an episode stops.
    """
    given, kernel, target = kernel, kernel.double(), target.double()
    at = _Point(torch.zeros_like(target), target.new_zeros(len(target), 1, target.shape[-1]))
    loss = _loss(at, kernel, target, c)  # (E, 1, 1)
    scale = (
        kernel.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1).sqrt()[:, None, None]
    )  # longest support image
    for _ in range(_NEWTON_STEPS):
        p = (kernel @ at.b + at.bias).softmax(-1)  # (E, n, W)
        error = c * (p - target)
        slope = _Point(at.b + error, error.sum(1, keepdim=True))
        is_open = _inner(slope, kernel @ slope.b, slope) > (tolerance * scale) ** 2
        if not bool(is_open.any()):
            break
        move = _newton(slope, kernel, c * p, c)
        share = is_open.to(kernel)  # (E, 1, 1)
        for _ in range(_HALVINGS):
            ahead = _Point(at.b - share * move.b, at.bias - share * move.bias)
            there = _loss(ahead, kernel, target, c)
            is_worse = there > loss + 1e-12 * loss.abs()
            if not bool(is_worse.any()):
                break
            share = torch.where(is_worse, share / 2, share)
        at, loss = ahead, there
    return Logistic(at.b.to(given), (at.bias - at.bias.mean(-1, keepdim=True)).squeeze(1).to(given))


class OnSupport(NamedTuple):
    """Classifiers and the support (E, n, D) whose span they are on."""

    support: Tensor
    fitted: Logistic

    def scores(self, query: Tensor) -> Tensor:
        """(E, Q, D) → (E, Q, W)."""
        return self.fitted.scores(query @ self.support.mT)


def fit_support(support: Tensor, c: float = 1.0) -> OnSupport:
    """Fit the classes of episodes as scikit-learn's ``LogisticRegression(C=c)`` does, at its optimum.

    Args:
        support: (E, W, n, D) float.
        c: weight of the data, > 0. Of two classes scikit-learn penalises one vector, which is the difference of the two
            here: half their sum of squares.
    """
    n_episodes, n_way, n = support.shape[:3]
    x = support.flatten(1, 2)  # (E, W·n, D)
    target = torch.eye(n_way).to(x).repeat_interleave(n, 0).expand(n_episodes, -1, -1)  # (E, W·n, W)
    return OnSupport(x, fit_logistic(x @ x.mT, target, c / 2 if n_way == 2 else c))


class _Point(NamedTuple):
    """Coefficients (E, n, W) and bias (E, 1, W)."""

    b: Tensor
    bias: Tensor


def _inner(x: _Point, kx: Tensor, y: _Point) -> Tensor:
    """Inner product of the weights and biases themselves; ``kx`` is the kernel times the coefficients of x."""
    return (kx * y.b).sum((1, 2), keepdim=True) + (x.bias * y.bias).sum((1, 2), keepdim=True)


def _loss(at: _Point, kernel: Tensor, target: Tensor, c: float) -> Tensor:
    scores = kernel @ at.b  # (E, n, W)
    fit = (torch.logsumexp(scores + at.bias, -1, keepdim=True) - ((scores + at.bias) * target).sum(-1, keepdim=True))  # fmt: skip
    return 0.5 * (at.b * scores).sum((1, 2), keepdim=True) + c * fit.sum((1, 2), keepdim=True)


def _newton(slope: _Point, kernel: Tensor, weighted: Tensor, c: float) -> _Point:
    """Solve Hessian · move = slope by conjugate gradients in the inner product of the weights themselves."""
    move = _Point(torch.zeros_like(slope.b), torch.zeros_like(slope.bias))
    left, way = slope, slope
    k_way = kernel @ way.b
    size = _inner(left, k_way, left)  # (E, 1, 1)
    small = 1e-14 * size
    for _ in range(_CONJUGATE_STEPS):
        shift = k_way + way.bias  # of the scores along the way
        change = weighted * shift - weighted * (weighted * shift).sum(-1, keepdim=True) / c
        bent = _Point(way.b + change, change.sum(1, keepdim=True))
        curve = _inner(way, k_way, bent)
        length = torch.where((size > small) & (curve > 1e-12 * size), size / curve, 0.0)
        move = _Point(move.b + length * way.b, move.bias + length * way.bias)
        left = _Point(left.b - length * bent.b, left.bias - length * bent.bias)
        k_left = kernel @ left.b
        fresh = _inner(left, k_left, left).clamp(min=0)
        if not bool((fresh > small).any()):
            break
        ratio = torch.where(size > small, fresh / size.clamp(min=1e-30), 0.0)
        way = _Point(left.b + ratio * way.b, left.bias + ratio * way.bias)
        k_way, size = k_left + ratio * k_way, fresh
    return move
