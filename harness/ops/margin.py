"""Linear classifiers over similarities, with a margin on the true class (Liu et al. 2020, Negative Margin)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness.ops.prototypes import cosine_scores

Similarity = Literal["cosine", "dot"]
"""Cosine of the angle (Neg-Cosine) or plain inner product (Neg-Softmax), neither with a bias."""


def similarities(features: Tensor, weight: Tensor, kind: Similarity) -> Tensor:
    """Compare features with class weights.

    Args:
        features: (..., n, D) float.
        weight: (..., W, D) float, one row per class.
        kind: see ``Similarity``; lengths are clamped below at 1e-12 in the cosine.

    Returns:
        (..., n, W); in [-1, 1] for the cosine.
    """
    if kind == "cosine":
        return cosine_scores(features, weight)
    return features @ weight.transpose(-1, -2)  # (..., n, W)


def margin_scores(similarity: Tensor, target: Tensor, *, scale: float, margin: float) -> Tensor:
    """Training scores scale·(similarity − margin·[class = target]) (Liu et al. 2020).

    A negative margin raises the true class by −scale·margin: training gets easier and base classes less
    compact. Test scores are scale·similarity, without margin.

    Args:
        similarity: (n, W) float.
        target: (n,) int64 in [0, W).
        scale: factor on similarity and margin, > 0; published values are 30 (cosine) and 5 or 10 (dot).
        margin: published values run from -0.3 to 0; positive values are CosFace.

    Returns:
        (n, W).

    >>> margin_scores(torch.tensor([[0.5, 0.1]]), torch.tensor([0]), scale=10.0, margin=-0.1)
    tensor([[6., 1.]])
    """
    true = functional.one_hot(target, similarity.shape[-1]).to(similarity.dtype)  # (n, W)
    return scale * (similarity - margin * true)


def margin_loss(
    features: Tensor, weight: Tensor, target: Tensor, *, kind: Similarity, scale: float, margin: float
) -> Tensor:
    """Mean cross-entropy of the margin scores.

    Args:
        features: (n, D) float.
        weight: (W, D) float class weights.
        target: (n,) int64 in [0, W).
        kind: see ``Similarity``.
        scale: factor on similarity and margin, > 0.
        margin: subtracted from the similarity of the true class.

    Returns:
        () loss, ≥ 0.
    """
    scores = margin_scores(similarities(features, weight, kind), target, scale=scale, margin=margin)
    return functional.cross_entropy(scores, target)


def draw_class_weights(n_classes: int, dim: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw (n_classes, dim) float32 class weights from U(−1/√dim, 1/√dim), a linear layer's usual draw."""
    return (torch.rand(n_classes, dim, generator=generator) * 2 - 1) / dim**0.5
