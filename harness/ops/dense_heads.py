"""Classifiers on the maps of images: nearest local descriptors (DN4), and reconstruction from those of a class (FRN)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.ops.normalise import l2_normalise


def descriptors(maps: Tensor) -> Tensor:
    """Maps (..., C, h, w) → the descriptors of their locations, (..., L, C) with L = h·w."""
    return maps.flatten(-2).transpose(-1, -2)  # (..., L, C)


def descriptor_scores(query: Tensor, support: Tensor, k: int = 3) -> Tensor:
    """Sum over a query's descriptors of the cosines to the k nearest of each class (Li et al. 2019, DN4, eq. 3).

    Args:
        query: (E, Q, L, C) float.
        support: (E, W, S, L, C) float.
        k: nearest descriptors, ≥ 1; all of a class where it has fewer.

    Returns:
        (E, Q, W).
    """
    pool = l2_normalise(support).flatten(2, 3)  # (E, W, S·L, C)
    n_query, n_local = query.shape[1:3]
    found = []
    for of_class in pool.unbind(1):  # one class at a time: a matrix of all would be W times as large
        cosine = l2_normalise(query).flatten(1, 2) @ of_class.mT  # (E, Q·L, S·L)
        best = cosine.topk(min(k, cosine.shape[-1]), dim=-1).values.sum(-1)  # (E, Q·L)
        found.append(best.unflatten(1, (n_query, n_local)).sum(-1))
    return torch.stack(found, dim=-1)


def reconstruction_scores(query: Tensor, support: Tensor, alpha: float = 0.0, beta: float = 0.0) -> Tensor:
    """Minus the mean squared error of a query's descriptors rebuilt by ridge regression from those of a class.

    Wertheimer, Tang and Hariharan 2021 (FRN), eq. 4 to 8. Solved on the smaller side, channels or descriptors of a class.

    Args:
        query: (E, Q, L, C) float.
        support: (E, W, S, L, C) float.
        alpha: λ = (S·L / C)·exp(alpha) + 1e-6.
        beta: a rebuilt query is multiplied by exp(beta).

    Returns:
        (E, Q, W).
    """
    pool = support.flatten(2, 3)  # (E, W, P, C), P descriptors of a class
    n_pool, n_channels = pool.shape[2:]
    ridge = n_pool / n_channels * torch.tensor(alpha, dtype=torch.float64).exp().item() + 1e-6
    factor = torch.tensor(beta, dtype=torch.float64).exp().item()
    if n_pool < n_channels:  # S^T (S S^T + λ)^-1 S, the same matrix
        gram = pool @ pool.mT + ridge * torch.eye(n_pool).to(pool)
        projection = pool.mT @ torch.linalg.solve(gram, pool)  # (E, W, C, C)
    else:
        gram = pool.mT @ pool  # (E, W, C, C)
        projection = torch.linalg.solve(gram + ridge * torch.eye(n_channels).to(pool), gram)
    rows = query.flatten(1, 2)  # (E, Q·L, C)
    found = []
    for of_class in projection.unbind(1):
        error = (factor * (rows @ of_class) - rows).square().sum(-1)  # (E, Q·L)
        found.append(-error.unflatten(1, query.shape[1:3]).mean(-1))
    return torch.stack(found, dim=-1)


def class_overlap(support: Tensor) -> Tensor:
    """FRN's auxiliary loss: 0.03 · sum over pairs of classes of |A Bᵀ|²_F, of the descriptors A and B of the two.

    Low where classes span different directions. Descriptors are divided by one norm of the whole support, as in the
    authors' code, which makes it small beside a cross-entropy. For methods that train on episodes; the head ``frn``
    learns nothing.

    Args:
        support: (W, S, L, C) float, of one episode; all 0 has no direction and is not a number.

    Returns:
        () of the support's type, ≥ 0.

    >>> class_overlap(torch.ones(2, 1, 1, 4))
    tensor(0.0075)
    """
    pool = (support / support.norm()).flatten(1, 2)  # (W, S·L, C)
    rows, sizes = pool.flatten(0, 1), pool.shape[:2]
    squares = (rows @ rows.mT).square().unflatten(1, sizes).unflatten(0, sizes)  # (W, S·L, W, S·L)
    return 0.03 * squares.sum((1, 3)).tril(-1).sum()  # of (W, W) below the diagonal
