"""Balanced assignments by Sinkhorn's iterations, each episode with a stopping rule of its own.

PT-MAP (Hu, Gripon and Pateux 2021, arXiv:2006.03806) assigns queries to classes so that each gets as many; balanced
pairwise affinities (Shalam and Korman, BPA) describe every item of an episode by its affinities to all others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from harness.ops.normalise import l2_normalise
from harness.ops.prototypes import squared_distances

_MOST_ROUNDS, _BLOCK = 1000, 10  # a block goes by before the episodes that have stopped are put aside
_TINY = 1e-200  # of a kernel's entry, where an exponential ends at 0
_OWN_COST = 1e5  # of an item to itself, so that it is not its own neighbour


def power_transform(x: Tensor, power: float = 0.5) -> Tensor:
    """Raise features to a power, (x + 1e-6)^power: what is skewed becomes more Gaussian (Hu et al. 2021, eq. 1).

    Raises:
        ValueError: for negative features, of which a root is not a number.
    """
    if bool((x < 0).any()):
        raise ValueError(
            f"features down to {float(x.min()):.3g}: a power is taken of them, so they have to be ≥ 0, as after a ReLU"
        )
    return (x + 1e-6) ** power


def unit_and_centred(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Unit length, each side centred on its own mean, unit length again: (E, n, D) and (E, Q, D)."""
    made = []
    for x in (support, query):
        x = l2_normalise(x)
        made.append(l2_normalise(x - x.mean(1, keepdim=True)))
    return made[0], made[1]


def balanced_plan(
    query: Tensor, prototypes: Tensor, strength: float = 10.0, tolerance: float = 1e-6
) -> Tensor:
    """Share queries out to classes: each row sums to 1, each column to Q / W (Hu et al. 2021, alg. 1).

    Columns are exact, rows within the tolerance or after a thousand rounds. Computed in float64, where a tolerance of
    1e-6 can be met.

    Args:
        query: (E, Q, D) float.
        prototypes: (E, W, D) float.
        strength: λ, of exp(−λ·|q − c|²), > 0.
        tolerance: largest change of a row sum at which an episode stops.

    Returns:
        (E, Q, W) float of the queries' type.
    """
    share = query.shape[1] / prototypes.shape[1]
    cost = squared_distances(prototypes, query).double()  # (E, W, Q): sums over queries run along memory
    kernel = (-strength * (cost - cost.amin((1, 2), keepdim=True))).exp()
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).clamp(min=_TINY)
    of_row, of_column = (
        kernel.new_ones(len(kernel), 1, kernel.shape[2]),
        kernel.new_ones(*kernel.shape[:2], 1),
    )
    sums = torch.zeros_like(of_row)  # of the rows of of_row · kernel · of_column, a round ago
    left = torch.arange(len(kernel), device=kernel.device)  # episodes that have not stopped
    for _ in range(_MOST_ROUNDS // _BLOCK):
        k, rows, columns, seen = kernel[left], [of_row[left]], [of_column[left]], [sums[left]]
        for _ in range(_BLOCK):
            reached = (k * columns[-1]).sum(1, keepdim=True)  # (E', 1, Q)
            seen.append(rows[-1] * reached)
            rows.append(reached.reciprocal())
            columns.append(share / (k * rows[-1]).sum(2, keepdim=True))
        change = torch.stack([(b - a).abs().amax((1, 2)) for a, b in pairwise(seen)])  # (block, E')
        is_still = torch.cat([change <= tolerance, torch.ones_like(change[:1], dtype=torch.bool)])
        taken, each = is_still.int().argmax(0), torch.arange(len(left))  # rounds that each took of the block
        of_row[left], of_column[left] = torch.stack(rows)[taken, each], torch.stack(columns)[taken, each]
        sums[left] = torch.stack(seen)[taken, each]
        left = left[taken == _BLOCK]
        if not len(left):
            break
    return (of_row * kernel * of_column).mT.to(query)


def map_plan(
    support: Tensor, query: Tensor, *, steps: int = 20, rate: float = 0.2, strength: float = 10.0
) -> Tensor:
    """Move class centres to what is assigned to them, and assign anew (PT-MAP's MAP).

    Args:
        support: (E, W, S, D) float.
        query: (E, Q, D) float.
        steps: of the centres, ≥ 0.
        rate: share of the way that they go, in (0, 1].
        strength: λ of ``balanced_plan``.

    Returns:
        (E, Q, W), the last plan.
    """
    shot = support.shape[2]
    total, centre = support.sum(2), support.mean(2)  # (E, W, D)
    for _ in range(steps):
        plan = balanced_plan(query, centre, strength)
        there = (total + plan.mT @ query) / (shot + plan.sum(1)).unsqueeze(-1)
        centre = centre + rate * (there - centre)
    return balanced_plan(query, centre, strength)


def pairwise_affinities(
    x: Tensor,
    *,
    reg: float = 0.1,
    rounds: int = 10,
    stop_below: float | None = None,
    metric: Literal["cosine", "euclidean"] = "cosine",
    is_sigmoid: bool = False,
    support_label: Tensor | None = None,
) -> Tensor:
    """Describe items by a doubly stochastic matrix of affinities to all others, divided by its largest entry (BPA).

    The authors' code has two paths: for one episode (``stop_below=None``), and for a batch, which stops early; here each
    episode of either is alone.

    Args:
        x: (E, n, D) float.
        reg: entropic regularisation, > 0.
        rounds: Sinkhorn's.
        stop_below: take the form of the authors' batches: marginals 1/n, and an end when the potentials of an episode
            change by less than this in sum (theirs: 0.1).
        metric: cost 1 − cosine, or Euclidean distances divided by the largest.
        is_sigmoid: take a sigmoid of the scaled costs in place of the exponential.
        support_label: (E, s) int64 of the first s items, whose affinities then are 1 within a class and 0 across.

    Returns:
        (E, n, n); item i is row i, its affinity to itself 1.
    """
    n = x.shape[1]
    if metric == "cosine":
        unit = l2_normalise(x)
        cost = 1 - unit @ unit.mT
    else:
        cost = squared_distances(x, x).clamp(min=0).sqrt()
        cost = cost / cost.amax((1, 2), keepdim=True).clamp(min=1e-12)
    own = torch.eye(n, dtype=torch.bool, device=x.device)
    kernel = -cost.masked_fill(own, _OWN_COST) / reg  # (E, n, n)
    marginal = 0.0 if stop_below is None else torch.tensor(1 / n + 1e-8).log().item()
    u = v = x.new_zeros(x.shape[:2])  # (E, n), potentials divided by reg
    is_open = torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
    for _ in range(rounds):
        new_u = marginal - torch.logsumexp(kernel + v.unsqueeze(1), 2)
        new_v = marginal - torch.logsumexp(kernel + new_u.unsqueeze(2), 1)
        change = reg * (new_u - u).abs().sum(1, keepdim=True)  # (E, 1)
        u, v = torch.where(is_open, new_u, u), torch.where(is_open, new_v, v)
        if stop_below is not None:
            is_open = is_open & (change >= stop_below)
            if not bool(is_open.any()):
                break
    z = kernel + u.unsqueeze(2) + v.unsqueeze(1)  # (E, n, n)
    z = z.sigmoid() if is_sigmoid else z.exp()
    z = z / z.amax((1, 2), keepdim=True)
    if support_label is not None:
        s = support_label.shape[1]
        same = (support_label.unsqueeze(1) == support_label.unsqueeze(2)).to(z)  # (E, s, s)
        z = torch.cat([torch.cat([same, z[:, :s, s:]], dim=2), z[:, s:]], dim=1)
    return z.masked_fill(own, 1.0)
