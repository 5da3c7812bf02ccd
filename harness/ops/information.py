"""Class weights moved by what they say of support and queries: cross-entropy and entropies, for many episodes at once.

Fine-tuning of class means, transductive information maximisation (Boudiaf et al. 2020, arXiv:2008.11297) and its
alpha-entropies (Veilleux et al. 2021, arXiv:2204.11181) are one loss with other weights:

    ce · CE(support) − marginal · H(mean prediction of the queries) + conditional · mean H(prediction of a query)

Gradients are written out, no graph is built; Adam acts element by element, so that episodes do not influence each other.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.ops.normalise import l2_normalise
from harness.ops.prototypes import squared_distances

Likeness = Literal["squared", "distance", "cosine"]
"""Logits: −(t/2)·|z − w|², −t·|z − w|, or t·cos(z, w)."""
_INSIDE_LOG = 1e-12


class LossWeights(NamedTuple):
    """Weights of the three terms; a weight of 0 leaves a term out.

    Attributes:
        ce: of the cross-entropy of the support.
        marginal: of the entropy of the mean prediction, which is raised: it asks for as many queries of every class.
        conditional: of the mean entropy of a prediction, which is lowered.
    """

    ce: float
    marginal: float
    conditional: float


def class_logits(x: Tensor, weight: Tensor, temperature: float, likeness: Likeness = "squared") -> Tensor:
    """Logits (..., n, W) of features (..., n, D) for class weights (..., W, D)."""
    if likeness == "cosine":
        return temperature * (l2_normalise(x) @ l2_normalise(weight).mT)
    squared = squared_distances(x, weight).clamp(min=0)
    return -temperature / 2 * squared if likeness == "squared" else -temperature * squared.sqrt()


def fit_class_weights(
    support: Tensor,
    label: Tensor,
    query: Tensor,
    *,
    loss: LossWeights,
    temperature: float,
    steps: int,
    lr: float,
    likeness: Likeness = "squared",
    alpha: float = 1.0,
) -> Tensor:
    """Move class weights from the class means by Adam (torch's defaults); inside, axes are (E, W, n).

    Rows are read in every step: give as many episodes as stay in the processor's cache (``cached_parts``).

    Args:
        support: (E, n, D) float.
        label: (E, n) int64 in [0, W); every class occurs.
        query: (E, Q, D) float; Q may be 0 where no term looks at queries.
        loss: weights of the terms.
        temperature: t of the logits, > 0.
        steps: Adam's, ≥ 0.
        lr: its step size, > 0.
        likeness: of the logits.
        alpha: of Tsallis' entropies of the queries, > 0; 1 is Shannon's.

    Returns:
        (E, W, D).
    """
    looks_at_queries = bool(loss.marginal or loss.conditional)
    x = torch.cat([support, query], dim=1) if looks_at_queries else support  # (E, n + Q, D)
    one_hot = torch.nn.functional.one_hot(label).mT.to(x)  # (E, W, n)
    weight = one_hot @ x[:, : label.shape[1]] / one_hot.sum(2, keepdim=True)  # (E, W, D)
    x = l2_normalise(x) if likeness == "cosine" else x
    length = x.square().sum(-1).unsqueeze(1) if likeness == "distance" else None  # (E, 1, n + Q), squared
    slope = partial(_slope, one_hot=one_hot, loss=loss, alpha=alpha, factor=temperature)
    adam = _Adam(weight, lr)
    for _ in range(steps):
        if likeness == "cosine":
            size = weight.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # (E, W, 1)
            cosine = (weight @ x.mT) / size  # (E, W, n + Q)
            pull = slope((temperature * cosine).softmax(1)) / size
            grad = torch.baddbmm((pull * cosine).sum(2, keepdim=True) / -size * weight, pull, x)
        else:
            half = weight.square().sum(-1, keepdim=True) / -2  # (E, W, 1)
            logits = torch.baddbmm(half, weight, x.mT)  # −|x − w|²/2, but for the |x|² that all classes share
            if length is None:
                pull = slope((temperature * logits).softmax(1))
            else:
                far = (length - 2 * logits).clamp(min=0).sqrt()
                pull = slope((-temperature * far).softmax(1))
                pull = torch.where(far > 0, pull / far.clamp(min=1e-12), 0.0)
            grad = torch.baddbmm(pull.sum(2, keepdim=True) * weight, pull, x, beta=-1)
        adam.step(grad)
    return weight


class _Adam:
    """Adam with torch's defaults on one tensor, in place; ``torch.optim`` takes longer to call than to compute here."""

    def __init__(
        self, weight: Tensor, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self._weight, self._lr, self._betas, self._eps, self._n = weight, lr, betas, eps, 0
        self._mean, self._square, self._root = (torch.zeros_like(weight) for _ in range(3))

    def step(self, grad: Tensor) -> None:
        """Step along a gradient."""
        self._n += 1
        first, second = self._betas
        self._mean.lerp_(grad, 1 - first)
        self._square.mul_(second).addcmul_(grad, grad, value=1 - second)
        unbias = (1 - second**self._n) ** 0.5
        torch.sqrt(self._square, out=self._root).add_(self._eps * unbias)
        self._weight.addcdiv_(self._mean, self._root, value=-self._lr * unbias / (1 - first**self._n))


def _slope(p: Tensor, one_hot: Tensor, loss: LossWeights, alpha: float, factor: float) -> Tensor:
    """Gradient of the loss with respect to the logits, from predictions p (E, W, n + Q) of support, then queries.

    Terms of the queries' part that all classes share are left out: they cancel.
    """
    n, n_query = one_hot.shape[2], p.shape[2] - one_hot.shape[2]
    found = factor * loss.ce / n * (p[..., :n] - one_hot)
    if not n_query:
        return found
    of_query, parts = p[..., n:], []
    if loss.conditional:
        parts.append(-loss.conditional * _entropy_slope(of_query + _INSIDE_LOG, alpha))
    if loss.marginal:
        mean = of_query.mean(2, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)  # (E, W, 1)
        parts.append(loss.marginal * _entropy_slope(mean, alpha))
    by_p = sum(parts)  # of the loss with respect to the queries' predictions
    weighted = of_query * by_p
    by_logit = torch.addcmul(weighted, of_query, weighted.sum(1, keepdim=True), value=-1)
    return torch.cat([found, factor / n_query * by_logit], dim=2)


def _entropy_slope(p: Tensor, alpha: float) -> Tensor:
    """Minus the derivative of an entropy, but for a constant."""
    return p.log() if alpha == 1.0 else alpha / (alpha - 1) * p ** (alpha - 1)


def alternate_class_weights(
    support: Tensor, label: Tensor, query: Tensor, *, loss: LossWeights, temperature: float, steps: int
) -> Tensor:
    """Minimise the same loss by alternating directions, without gradients (Boudiaf et al. 2020, §3.3, step 1).

    As there, episodes are best given a few at a time.

    Args:
        support, label, query, loss, temperature: as in ``fit_class_weights``; logits are squared distances.
        steps: rounds, ≥ 0.

    Returns:
        (E, W, D).
    """
    x = torch.cat([support, query], dim=1)  # (E, n + Q, D)
    one_hot = torch.nn.functional.one_hot(label).mT.to(x)  # (E, W, n)
    n, n_query = label.shape[1], x.shape[1] - label.shape[1]
    weight = one_hot @ x[:, :n] / one_hot.sum(2, keepdim=True)  # (E, W, D)
    share = x.new_full((n + n_query,), n / max(n_query, 1))
    share[:n] = loss.ce / (1 + loss.conditional)
    balance = loss.marginal / (loss.marginal + 1)
    tiny = torch.finfo(x.dtype).tiny
    for _ in range(steps):
        logits = temperature * (weight @ x.mT - weight.square().sum(-1, keepdim=True) / 2)  # (E, W, n + Q)
        p = logits.softmax(1)
        sharp = p[..., n:] ** (1 + loss.conditional)
        sharp = sharp / sharp.sum(2, keepdim=True).clamp(min=tiny) ** balance
        aim = share * torch.cat([one_hot, sharp / sharp.sum(1, keepdim=True)], dim=2)
        drawn = share * p
        weight = (aim - drawn) @ x + drawn.sum(2, keepdim=True) * weight
        weight = weight / aim.sum(2, keepdim=True)
    return weight
