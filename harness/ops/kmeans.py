"""k-means from random directions, as the low-shot authors cluster each base class (Hariharan and Girshick 2017).

Centroids start on the unit sphere, far from non-negative features, so most of them are first placed on data rows: one
that never had a member is put on a row drawn at random, again after every iteration.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kmeans(x: Tensor, start: Tensor, n_iterations: int, draw_row: Callable[[int], int]) -> Tensor:
    """Lloyd's iterations in float64.

    Args:
        x: (n, D) float rows.
        start: (k, D) first centroids, as of ``unit_directions``.
        n_iterations: ≥ 0.
        draw_row: n → a row in [0, n), drawn uniformly; asked once for each centroid that never had a member, in
            ascending order, after each iteration. Two centroids may be put on one row.

    Returns:
        (k, D) float64 centroids after the last update. One that lost all its members stays where it was.

    >>> kmeans(torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[0.0], [5.0]]), 2, lambda n: 0).T
    tensor([[0.5000, 9.0000]], dtype=torch.float64)
    """
    x, centroids = x.double(), start.to(x.device, torch.float64, copy=True)
    is_used = torch.zeros(len(centroids), dtype=torch.bool, device=x.device)
    for _ in range(n_iterations):
        label = nearest(x, centroids)  # (n,)
        count = label.bincount(minlength=len(centroids))  # (k,)
        total = torch.zeros_like(centroids).index_add_(0, label, x)  # (k, D)
        has_members = count > 0
        centroids[has_members] = total[has_members] / count[has_members, None]
        is_used |= has_members
        for i in torch.nonzero(~is_used).flatten().tolist():
            centroids[i] = x[draw_row(len(x))]
    return centroids


def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """The nearest of (k, D) centroids to each of (n, D) rows: (n,) int64; of equally near ones the first."""
    return (x @ centroids.T - centroids.square().sum(1) / 2).argmax(1)  # (n, k) → (n,)


def unit_directions(k: int, dim: int, generator: torch.Generator) -> Tensor:
    """Draw (k, dim) float64 vectors of unit length from a CPU generator."""
    drawn = torch.randn(k, dim, generator=generator, dtype=torch.float64)
    return drawn / drawn.norm(dim=1, keepdim=True)
