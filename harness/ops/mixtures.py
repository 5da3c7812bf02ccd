"""Classes that are mixtures of centres: RepMet's losses and posteriors, and the k-nearest-cluster rule of Magnet.

A class is a few centres in the space of features (RepMet: representatives, Magnet: clusters), and ``owner`` says whose
each is. p_ij(x) = exp(−d(x, R_ij) / 2σ²) is how near x is to the j-th centre of class i, with d the squared Euclidean
distance unless another measure is asked for.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.ops.normalise import l2_normalise
from harness.ops.prototypes import squared_distances

Measure = Literal["squared", "euclidean", "cosine"]
RepMetLoss = Literal["hinge", "v1", "v2", "v3"]
KncRule = Literal["plain", "squared", "root"]


def owners(n_classes: int, k: int) -> Tensor:
    """Who owns each of C·k centres where class c has rows c·k … c·k + k − 1: (C·k,) int64.

    >>> owners(2, 3).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    return torch.arange(n_classes).repeat_interleave(k)


def centre_distances(x: Tensor, centre: Tensor, measure: Measure = "squared") -> Tensor:
    """Distances of features to centres.

    Args:
        x: (..., N, D) float.
        centre: (..., M, D) float.
        measure: "squared" Euclidean, "euclidean", or "cosine": 1 − cosine, in [0, 2].

    Returns:
        (..., N, M), ≥ 0.
    """
    if measure == "cosine":
        return 1 - l2_normalise(x) @ l2_normalise(centre).mT
    squared = squared_distances(x, centre).clamp(min=0)
    # the root has no slope at 0: below the rounding of float32 it is cut off
    return squared if measure == "squared" else squared.clamp(min=1e-12).sqrt()


class Losses(NamedTuple):
    """A loss and what it is the mean of.

    Attributes:
        loss: () mean.
        per_example: (..., N), ≥ 0.
    """

    loss: Tensor
    per_example: Tensor


def repmet_loss(
    distance: Tensor,
    label: Tensor,
    owner: Tensor,
    *,
    kind: RepMetLoss = "hinge",
    alpha: float = 1.0,
    sigma: float = 0.5,
    eps: float = 0.0,
) -> Losses:
    """RepMet's embedding loss (Karlinsky et al. 2019, §3.1), or one of three soft-max forms of it.

    "hinge": relu(nearest own distance − nearest other distance + alpha). The others are relu(alpha − log ratio) with
    p summed over centres: "v1" nearest own / all of other classes, "v2" own / all, "v3" own / all of other classes.
    v2 never falls below ``alpha``: it is the cross-entropy of the soft posterior, and a constant.

    Args:
        distance: (..., N, M) float.
        label: (N,) int64 class of each example; each has a centre, and some other class too.
        owner: (M,) int64 class of each centre.
        kind: which.
        alpha: margin, in units of the distance for the hinge.
        sigma: width σ of p, > 0; not used by the hinge.
        eps: what public code adds to the denominator and to the ratio (1e-8), which caps a loss at
            alpha − log(eps); 0 for the plain formula, by log-sum-exp.
    """
    is_own = label.unsqueeze(-1) == owner  # (N, M)
    if kind == "hinge":
        own = distance.masked_fill(~is_own, torch.inf).amin(-1)
        other = distance.masked_fill(is_own, torch.inf).amin(-1)
        value = own - other + alpha
    else:
        log_p = -distance / (2 * sigma**2)
        least = torch.finfo(log_p.dtype).min
        own = log_p.masked_fill(~is_own, least)
        above = own.amax(-1) if kind == "v1" else own.logsumexp(-1)
        below = (log_p if kind == "v2" else log_p.masked_fill(is_own, least)).logsumexp(-1)
        value = alpha - capped_log_ratio(above, below, eps)
    per_example = value.relu()
    return Losses(per_example.mean(), per_example)


def capped_log_ratio(log_above: Tensor, log_below: Tensor, eps: float) -> Tensor:
    """log(above / (below + eps) + eps) from logarithms; 0 adds nothing, and nothing underflows.

    >>> capped_log_ratio(torch.tensor(-2000.0), torch.tensor(-2001.0), 0.0)
    tensor(1.)
    """
    if eps == 0:
        return log_above - log_below
    floor = log_below.new_tensor(eps).log()
    return torch.logaddexp(log_above - torch.logaddexp(log_below, floor), floor)


def class_sums(log_p: Tensor, owner: Tensor, n_classes: int) -> Tensor:
    """Add p up over the centres of each class, as logarithms.

    Args:
        log_p: (..., N, M) float; −inf where a centre does not count.
        owner: (M,) int64 in [0, n_classes).
        n_classes: C.

    Returns:
        (..., N, C); −inf where nothing counts.
    """
    most = log_p.amax(-1, keepdim=True)  # (..., N, 1)
    p = (log_p - most).exp()
    total = p.new_zeros(*p.shape[:-1], n_classes).index_add(-1, owner, p)
    return total.log() + most


def soft_posterior(
    distance: Tensor, owner: Tensor, n_classes: int, *, sigma: float = 0.5, eps: float = 0.0
) -> Tensor:
    """Share of each class in all of p: Σ_j p_cj / Σ_ij p_ij (Karlinsky et al. 2019, eq. 6 with equal weights).

    Args:
        distance: (..., N, M) float.
        owner: (M,) int64 in [0, n_classes).
        n_classes: C.
        sigma: σ, > 0.
        eps: what public code adds to the denominator and to the share (1e-8).

    Returns:
        (..., N, C) in [0, 1], sums to 1 where ``eps`` is 0.
    """
    log_sum = class_sums(-distance / (2 * sigma**2), owner, n_classes)
    return log_sum.softmax(-1) if eps == 0 else log_sum.exp() / (log_sum.exp().sum(-1, True) + eps) + eps


def hard_posterior(distance: Tensor, owner: Tensor, n_classes: int, *, sigma: float = 0.5) -> Tensor:
    """What RepMet's detector says of a region and each class: max_j p_cj (Karlinsky et al. 2019, eq. 3).

    Args:
        distance: (..., N, M) float.
        owner: (M,) int64 in [0, n_classes).
        n_classes: C.
        sigma: σ, > 0.

    Returns:
        (..., N, C) in [0, 1]; classes compete no further, and one without a centre has 0.
    """
    p = (-distance / (2 * sigma**2)).exp()
    where = owner.expand_as(p)
    return p.new_zeros(*p.shape[:-1], n_classes).scatter_reduce(-1, where, p, "amax")


def background_probability(distance: Tensor, *, sigma: float = 0.5) -> Tensor:
    """Probability that a region is none of the classes: 1 − max_ij p_ij (Karlinsky et al. 2019, eq. 4).

    Args:
        distance: (..., N, M) float.
        sigma: σ, > 0.

    Returns:
        (..., N) in [0, 1].
    """
    return 1 - (-distance / (2 * sigma**2)).exp().amax(-1)


class Centres(NamedTuple):
    """Classes as mixtures of centres.

    Attributes:
        centre: (M, D).
        owner: (M,) int64 class of each.
        n_classes: C; a class may be without a centre.
    """

    centre: Tensor
    owner: Tensor
    n_classes: int


def replaced_centres(
    known: Centres, support: Tensor, label: Tensor, n_classes: int, n_kept: int = 0
) -> Centres:
    """New classes in place of trained ones: their centres are the features of their support (Karlinsky et al. §3.3).

    Args:
        known: of training.
        support: (n, D) float, features of support images, or of the regions that hold the new classes.
        label: (n,) int64 in [n_kept, n_classes), new class of each; shots may differ.
        n_classes: of the result.
        n_kept: trained classes that stay, the first so many (0: an episode asks new classes alone).

    Returns:
        Centres of the classes kept, then those of the support.
    """
    stays = known.owner < n_kept
    centre, owner = torch.cat([known.centre[stays], support]), torch.cat([known.owner[stays], label])
    return Centres(centre, owner, n_classes)


def nearest_cluster_posterior(
    distance: Tensor,
    owner: Tensor,
    n_classes: int,
    variance: float | Tensor,
    *,
    n_nearest: int = 128,
    rule: KncRule = "plain",
) -> Tensor:
    """The k-nearest-cluster rule, kNC (Rippel et al. 2016, eq. 6): the nearest clusters vote by their p.

    Args:
        distance: (..., N, M) squared Euclidean distances to all clusters.
        owner: (M,) int64 in [0, n_classes).
        n_classes: C.
        variance: v, > 0, of members around their clusters in training.
        n_nearest: L, clusters that vote, ≥ 1; all where there are fewer.
        rule: exponent −d / 2v ("plain", σ² = v), −d / 2v² ("squared") or −√d / 2v ("root"), as in public code.

    Returns:
        (..., N, C) in [0, 1], sums to 1.
    """
    exponent = distance.clamp(min=0).sqrt() if rule == "root" else distance
    log_p = -exponent / (2 * (variance**2 if rule == "squared" else variance))
    if n_nearest < log_p.shape[-1]:
        best = log_p.topk(n_nearest, dim=-1)
        log_p = torch.full_like(log_p, -torch.inf).scatter(-1, best.indices, best.values)
    return class_sums(log_p, owner, n_classes).softmax(-1)
