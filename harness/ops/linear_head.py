"""A linear classifier fitted to each episode's support by mini-batch SGD, for many episodes at once.

Every update adds support features and the weights themselves to the weights, so they never leave the span of
their start and the support: W_t = a_t·W_0 + B_t·X. The recursion runs on the coefficients a (one per class) and
B (one per class and support image) through the Gram matrix of the n support images. An image of a batch then
costs W·n multiplications instead of W·D, and no graph is built; the result is SGD's own, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.ops.margin import Similarity, draw_class_weights
from harness.ops.normalise import l2_normalise


class Sgd(NamedTuple):
    """SGD with momentum, in torch's form: the first step takes the bare gradient as its velocity.

    The defaults are the published recipe of Baseline++ and Negative Margin (Liu et al. 2020).

    Attributes:
        lr: learning rate, > 0.
        momentum: share of the old velocity that is kept, in [0, 1).
        dampening: share of the new gradient that is left out, in [0, 1).
        weight_decay: multiple of the weights added to the gradient, ≥ 0.
        batch_size: support images per step; the last batch of a pass may be smaller.
    """

    lr: float = 0.01
    momentum: float = 0.9
    dampening: float = 0.9
    weight_decay: float = 0.001
    batch_size: int = 4


def draw_heads(generators: Sequence[torch.Generator], n_way: int, dim: int) -> Tensor:
    """Draw initial weights from one CPU generator per episode, as ``draw_class_weights`` does.

    Returns:
        (E, n_way, dim) float32 on the CPU.
    """
    return torch.stack([draw_class_weights(n_way, dim, g) for g in generators])  # (E, W, D)


def draw_orders(generators: Sequence[torch.Generator], n_support: int, n_passes: int) -> Tensor:
    """Draw a fresh order of the support for every pass, from one CPU generator per episode.

    Returns:
        (E, n_passes, n_support) int64 on the CPU; each row is a permutation.
    """
    keys = [torch.rand(n_passes, n_support, generator=g) for g in generators]
    return torch.stack(keys).argsort(dim=-1, stable=True)  # (E, passes, n)


def with_bias(features: Tensor) -> Tensor:
    """Append a constant 1, (..., D) → (..., D + 1): the last column of a "dot" head is then its bias."""
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def fit_heads(
    support: Tensor,
    target: Tensor,
    weight: Tensor,
    orders: Tensor,
    *,
    kind: Similarity,
    scale: float,
    sgd: Sgd | None = None,
) -> Tensor:
    """Minimise the mean cross-entropy of scale·similarity(support, weight) by SGD, episode by episode.

    Args:
        support: (E, n, D) float features.
        target: (E, n) int64 in [0, W).
        weight: (E, W, D) float, where the fit starts.
        orders: (E, passes, n) int64; row p of an episode is the order in which pass p walks its support.
        kind: similarity, "cosine" or "dot".
        scale: factor on the similarity, > 0 (published: 5; 1 for an affine layer, see ``with_bias``).
        sgd: step sizes; the published recipe when left out.

    Returns:
        (E, W, D) fitted weights. Episodes do not influence each other.
    """
    sgd = sgd or Sgd()
    basis = l2_normalise(support) if kind == "cosine" else support  # (E, n, D)
    span = _Span.start_at(weight, basis, target)
    previous = torch.arange(basis.shape[1], device=basis.device).expand_as(target)  # (E, n)
    for i, (order, back) in enumerate(zip(orders.unbind(1), orders.argsort(dim=-1).unbind(1), strict=True)):
        span = span.reorder(previous.gather(1, order))
        _walk(span, kind, scale, sgd, is_first=i == 0)
        previous = back
    span = span.reorder(previous)
    return span.own * weight + span.mix @ basis  # (E, W, D)


class Gained(NamedTuple):
    """Linear classifiers of nearly unit features, with direction and length apart (weight norm; S2M2's head).

    Attributes:
        direction: (E, W, D), of any length.
        gain: (E, W, 1), the length.
    """

    direction: Tensor
    gain: Tensor

    def scores(self, x: Tensor, scale: float) -> Tensor:
        """Features (E, n, D) → (E, n, W)."""
        return scale * nearly_unit(x) @ (self.gain * l2_normalise(self.direction)).mT


def nearly_unit(x: Tensor) -> Tensor:
    """Divide (..., D) by length + 1e-5, as the heads of the closer-look family do."""
    return x / (x.norm(dim=-1, keepdim=True) + 1e-5)


def fit_gained_heads(
    support: Tensor, target: Tensor, start: Gained, orders: Tensor, *, scale: float, sgd: Sgd
) -> Gained:
    """As ``fit_heads`` for cosines with a gain: SGD on directions and gains, the weight decay on both.

    Args:
        support: (E, n, D) float features.
        target: (E, n) int64 in [0, W).
        start: where the fit starts; unchanged.
        orders: (E, passes, n) int64.
        scale: factor on the scores, > 0.
        sgd: step sizes.
    """
    basis = nearly_unit(support)  # (E, n, D)
    span = _Span.start_at(start.direction, basis, target)
    gain = start.gain.clone()
    pace = torch.zeros_like(gain)  # velocity of the gains
    previous = torch.arange(basis.shape[1], device=basis.device).expand_as(target)  # (E, n)
    for i, (order, back) in enumerate(zip(orders.unbind(1), orders.argsort(dim=-1).unbind(1), strict=True)):
        span = span.reorder(previous.gather(1, order))
        for batch in _batches(span, sgd):
            blend = 1.0 if i == 0 and batch.start == 0 else 1.0 - sgd.dampening
            cosine, length = _cosines(span, batch)
            error = _error(scale * gain * cosine, span.true[..., batch])
            by_gain = scale * (error * cosine).sum(-1, keepdim=True) + sgd.weight_decay * gain  # (E, W, 1)
            shrink = (
                sgd.weight_decay - gain * scale * (error * cosine).sum(-1, keepdim=True) / length.square()
            )
            _step(span, batch, shrink, scale * gain * error / length, blend, sgd)
            pace.mul_(sgd.momentum).add_(by_gain, alpha=blend)
            gain = gain - sgd.lr * pace
        previous = back
    span = span.reorder(previous)
    return Gained(span.own * start.direction + span.mix @ basis, gain)


class _Span(NamedTuple):
    """The weights in coordinates: own·W_0 + mix·X, with the velocity in the same coordinates.

    ``own``, ``own_velocity`` and ``length`` (|W_0|²) are (E, W, 1); ``mix``, ``mix_velocity``, ``start``
    (W_0·Xᵀ) and ``true`` (one-hot targets) are (E, W, n); ``gram`` (X·Xᵀ) is (E, n, n).
    """

    own: Tensor
    own_velocity: Tensor
    length: Tensor
    mix: Tensor
    mix_velocity: Tensor
    start: Tensor
    true: Tensor
    gram: Tensor

    @classmethod
    def start_at(cls, weight: Tensor, basis: Tensor, target: Tensor) -> _Span:
        start = weight @ basis.mT  # (E, W, n)
        true = torch.zeros_like(start).scatter_(1, target.unsqueeze(1), 1.0)  # (E, W, n)
        length = weight.square().sum(-1, keepdim=True)  # (E, W, 1)
        own, mix = torch.ones_like(length), torch.zeros_like(start)
        gram = basis @ basis.mT  # (E, n, n)
        return cls(own, torch.zeros_like(own), length, mix, torch.zeros_like(mix), start, true, gram)

    def reorder(self, order: Tensor) -> _Span:
        """Walk the support in another order; ``order`` (E, n) counts in the present one."""
        columns = order.unsqueeze(1).expand_as(self.mix)  # (E, W, n)
        rows = order.unsqueeze(2).expand_as(self.gram)  # (E, n, n)
        return self._replace(
            mix=self.mix.gather(2, columns),
            mix_velocity=self.mix_velocity.gather(2, columns),
            start=self.start.gather(2, columns),
            true=self.true.gather(2, columns),
            gram=self.gram.gather(1, rows).gather(2, order.unsqueeze(1).expand_as(self.gram)),
        )


def _walk(span: _Span, kind: Similarity, scale: float, sgd: Sgd, *, is_first: bool) -> None:
    """One pass over the support in its present order; changes the coordinates of ``span`` in place."""
    for batch in _batches(span, sgd):
        shrink, add = _gradient(span, batch, kind, scale)
        blend = 1.0 if is_first and batch.start == 0 else 1.0 - sgd.dampening
        _step(span, batch, shrink + sgd.weight_decay, add, blend, sgd)


def _batches(span: _Span, sgd: Sgd) -> Iterator[slice]:
    """The batches of a pass, in its present order."""
    n = span.mix.shape[-1]
    for low in range(0, n, sgd.batch_size):
        yield slice(low, min(low + sgd.batch_size, n))


def _step(span: _Span, batch: slice, shrink: Tensor, add: Tensor, blend: float, sgd: Sgd) -> None:
    """One step of SGD along shrink·W + add·X_batch, in place."""
    own, own_velocity, _, mix, mix_velocity, *_ = span
    own_velocity.mul_(sgd.momentum).addcmul_(own, shrink, value=blend)
    mix_velocity.mul_(sgd.momentum).addcmul_(mix, shrink, value=blend)
    mix_velocity[..., batch].add_(add, alpha=blend)
    own.sub_(own_velocity, alpha=sgd.lr)
    mix.sub_(mix_velocity, alpha=sgd.lr)


def _gradient(span: _Span, batch: slice, kind: Similarity, scale: float) -> tuple[Tensor, Tensor]:
    """The batch's gradient as shrink·W + add·X_batch: shrink is (E, W, 1) or 0-dim, add (E, W, batch)."""
    if kind == "dot":
        scores = span.own * span.start[..., batch] + span.mix @ span.gram[..., batch]  # (E, W, batch)
        error = _error(scale * scores, span.true[..., batch])
        return scores.new_zeros(()), scale * error
    cosine, length = _cosines(span, batch)
    error = _error(scale * cosine, span.true[..., batch])
    return -scale * (error * cosine).sum(-1, keepdim=True) / length.square(), scale * error / length


def _cosines(span: _Span, batch: slice) -> tuple[Tensor, Tensor]:
    """Cosines of a batch (E, W, batch), and the lengths of the weights (E, W, 1)."""
    mixed = span.mix @ span.gram  # (E, W, n)
    started = span.own * span.start  # (E, W, n)
    length = span.own.square() * span.length + (span.mix * (2 * started + mixed)).sum(-1, keepdim=True)
    length = length.sqrt().clamp(min=1e-12)  # (E, W, 1)
    return (started + mixed)[..., batch] / length, length


def _error(scores: Tensor, true: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the scores, both (E, W, batch)."""
    return (scores.softmax(dim=1) - true) / scores.shape[-1]
