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
    """Mark the nearest other queries of each.

    Of the k nearest rows the first is dropped, whatever it is: the query itself, or a duplicate of it.

    Args:
        query: (..., Q, D) float.
        k: nearest rows, the query itself among them, ≥ 1; all where there are fewer.

    Returns:
        (..., Q, Q) of 0 and 1, k − 1 ones a row; not symmetric.
    """
    gram = query @ query.mT  # (..., Q, Q)
    near = 2 * gram - gram.diagonal(dim1=-2, dim2=-1).unsqueeze(
        -2
    )  # minus the squared distance, but for the row's own
    near.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)  # rounding must not put another one first
    found = near.topk(min(k, query.shape[-2])).indices[..., 1:]  # (..., Q, k − 1)
    return torch.zeros_like(gram).scatter_(-1, found, 1.0)


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
    z = (-unary).softmax(-1)  # (E, Q, W)
    pull = near @ z
    last = unary.new_full(unary.shape[:1], torch.inf)  # (E,)
    is_open = torch.ones_like(last, dtype=torch.bool)
    taken, energies = torch.zeros_like(last, dtype=torch.int64), []
    for i in range(rounds):
        z = torch.where(is_open[:, None, None], (strength * pull - unary).softmax(-1), z)
        pull = near @ z
        energy = (z * z.clamp(min=1e-20).log() + unary * z - strength * pull * z).sum((1, 2))
        taken += is_open
        energies.append(energy)
        is_open = is_open & ~((i > 1) & ((energy - last).abs() <= tolerance * last.abs()))
        if not bool(is_open.any()):
            break
        last = energy
    return Smoothed(z, torch.stack(energies) if energies else unary.new_zeros(0, len(unary)), taken)
