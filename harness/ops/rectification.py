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


class FromProducts(NamedTuple):
    """What LaplacianShot asks of an episode, from the inner products of its rows alone: one matrix product an episode.

    Attributes:
        unary: (..., Q, W) squared distances of the (shifted) queries to the prototypes.
        near: (..., Q, Q) as ``neighbours``.
    """

    unary: Tensor
    near: Tensor


def from_products(gram: Tensor, n_way: int, shot: int, k: int, *, rectified: bool) -> FromProducts:
    """Distances to class means or to prototypes as ``rectify`` corrects them, and near queries.

    All of them are weighted sums of rows, so that no vector is touched again.

    Args:
        gram: (..., n, n) float, inner products of the normalised rows: support, class after class, then Q ≥ 1 queries.
        n_way, shot: of the support.
        k: nearest queries, the query itself among them, ≥ 1.
        rectified: whether queries correct the class means, and are shifted.
    """
    n_support = n_way * shot
    is_query = (torch.arange(gram.shape[-1], device=gram.device) >= n_support).to(gram)  # (n,)
    weight = torch.eye(n_way).to(gram).repeat_interleave(shot, 1) / shot  # (W, W·S), of the class means
    weight = torch.nn.functional.pad(weight, (0, gram.shape[-1] - n_support))  # (W, n)
    near = _nearest(gram[..., n_support:, n_support:], k)
    if rectified:
        shift = (1 - is_query) / n_support - is_query / is_query.sum()  # of every query, as a sum of rows
        along = gram @ shift  # (..., n)
        moved = is_query * along.unsqueeze(-1)  # (..., n, n)
        gram = gram + moved + moved.mT + (along @ shift)[..., None, None] * (is_query * is_query[:, None])
    length = gram.diagonal(dim1=-2, dim2=-1)  # (..., n), squared
    product = gram @ weight.mT  # (..., n, W)
    if rectified:
        size = (weight @ product).diagonal(dim1=-2, dim2=-1)  # (..., W), squared, of the class means
        cosine = product / (
            length.clamp(min=1e-24).sqrt().unsqueeze(-1) * size.clamp(min=1e-24).sqrt().unsqueeze(-2)
        )
        nearest = torch.nn.functional.one_hot(cosine.argmax(-1), n_way).to(gram)  # (..., n, W)
        count = nearest.sum(-2).unsqueeze(-1)  # (..., W, 1)
        moved = (nearest * (_SHARPNESS * cosine).softmax(-1)).mT / count.clamp(min=1)  # (..., W, n)
        weight = torch.where(count > 0, moved, weight)
        product = gram @ weight.mT
    size = (weight * product.mT).sum(-1)  # (..., W), squared, of the prototypes
    unary = length.unsqueeze(-1) - 2 * product + size.unsqueeze(-2)
    return FromProducts(unary[..., n_support:, :], near)


def neighbours(query: Tensor, k: int) -> Tensor:
    """Mark the nearest other queries of each; of equally near ones some.

    Args:
        query: (..., Q, D) float.
        k: nearest queries, the query itself among them, ≥ 1; all where there are fewer.

    Returns:
        (..., Q, Q) of 0 and 1, k − 1 ones a row; not symmetric.
    """
    return _nearest(query @ query.mT, k)


def _nearest(gram: Tensor, k: int) -> Tensor:
    """As ``neighbours``, from inner products (..., Q, Q)."""
    near = 2 * gram - gram.diagonal(dim1=-2, dim2=-1).unsqueeze(
        -2
    )  # minus the squared distance, but for the row's own
    near.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    marked = torch.zeros_like(near)
    for _ in range(min(k, gram.shape[-1]) - 1):
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
