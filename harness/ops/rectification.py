"""Prototypes corrected by the queries, and assignments smoothed over neighbouring queries.

BD-CSPN (Liu et al. 2020, arXiv:1911.10713) in the form in which the code of LaplacianShot (Ziko et al. 2020,
arXiv:2006.15486) and of alpha-TIM runs it, for which its authors left no code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.ops.normalise import l2_normalise
from harness.ops.prototypes import class_means

_SHARPNESS = 10.0  # of the weights of rows, by their cosine


class Rectified(NamedTuple):
    """Prototypes after a look at the queries.

    Attributes:
        prototypes: (..., W, D).
        query: (..., Q, D), shifted so that support and queries have one mean.
    """

    prototypes: Tensor
    query: Tensor


def rectify(support: Tensor, query: Tensor) -> Rectified:
    """Shift queries onto the support, assign every row to its nearest mean, average what was assigned by its confidence.

    A prototype is a plain mean of weighted rows, so it is shorter than they are; one that nothing was assigned to stays
    the class mean (the authors of both codes drop such a class and mislabel those after it).

    Args:
        support: (..., W, S, D) float, normalised.
        query: (..., Q, D) float, Q ≥ 1.
    """
    rows, means = support.flatten(-3, -2), class_means(support)  # (..., W·S, D), (..., W, D)
    query = query + (rows.mean(-2, keepdim=True) - query.mean(-2, keepdim=True))
    unit, moved, count = l2_normalise(means), torch.zeros_like(means), means.new_zeros(())
    for x in (rows, query):
        cosine = (x @ unit.mT) / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # (..., n, W)
        nearest = torch.nn.functional.one_hot(cosine.argmax(-1), means.shape[-2]).to(x)  # (..., n, W)
        moved = moved + (nearest * (_SHARPNESS * cosine).softmax(-1)).mT @ x  # (..., W, D)
        count = count + nearest.sum(-2).unsqueeze(-1)  # (..., W, 1)
    return Rectified(torch.where(count > 0, moved / count.clamp(min=1), means), query)


def neighbours(query: Tensor, k: int) -> Tensor:
    """Mark the nearest other queries of each; of equally near ones some.

    Args:
        query: (..., Q, D) float.
        k: nearest queries, the query itself among them, ≥ 1; all where there are fewer.

    Returns:
        (..., Q, Q) of 0 and 1, k − 1 ones a row; not symmetric.
    """
    gram = query @ query.mT  # (..., Q, Q)
    near = 2 * gram - gram.diagonal(dim1=-2, dim2=-1).unsqueeze(
        -2
    )  # minus the squared distance, but for the row's own
    near.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    marked = torch.zeros_like(near)
    for _ in range(min(k, query.shape[-2]) - 1):
        nearest = near.max(-1, keepdim=True).indices
        near.scatter_(-1, nearest, -torch.inf)
        marked.scatter_(-1, nearest, 1.0)
    return marked


class Smoothed(NamedTuple):
    """What the bound updates of LaplacianShot came to.

    Attributes:
        assignment: (E, Q, W), rows sum to 1.
        energy: (rounds, E) after each round that any episode took; that of an episode stays once it has stopped.
        rounds: (E,) int64 that each took.
    """

    assignment: Tensor
    energy: Tensor
    rounds: Tensor


def smooth_assignments(
    unary: Tensor, near: Tensor, strength: float, rounds: int = 20, tolerance: float = 1e-6
) -> Smoothed:
    """Let neighbours agree (Ziko et al. 2020, alg. 1); each episode stops by itself.

    Args:
        unary: (E, Q, W) squared distances to the prototypes.
        near: (E, Q, Q) from ``neighbours``.
        strength: λ of the pairwise term, ≥ 0.
        rounds: at most.
        tolerance: relative change of the energy at which an episode stops, after its third round at the earliest.
    """
    a, near = unary.mT.contiguous(), near.mT  # (E, W, Q): sums over classes run along memory
    found = (-a).softmax(1)
    energy = found.new_zeros(rounds, len(a))
    taken, left = torch.full((len(a),), rounds), torch.arange(len(a), device=a.device)
    z, pull = found, strength * (found @ near)
    for i in range(rounds):
        z = (pull - a).softmax(1)
        pull = strength * (z @ near)
        energy[i:, left] = (z * (z.clamp(min=1e-20).log() + a - pull)).sum((1, 2))
        change = (energy[i, left] - energy[i - 1, left]).abs()
        is_still = (change <= tolerance * energy[i - 1, left].abs()) & (i > 1)
        if i + 1 < rounds and not bool(is_still.any()):
            continue
        is_done = is_still | (i + 1 == rounds)
        found[left[is_done]], taken[left[is_done]] = z[is_done], i + 1
        left, z, pull, a, near = (part[~is_done] for part in (left, z, pull, a, near))
        if not len(left):
            break
    return Smoothed(found.mT, energy[: int(taken.max()) if len(taken) else 0], taken)
