"""Magnet loss, and the batches of neighbouring clusters that it is computed on (Rippel et al., ICLR 2016)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.ops.clusters import ClusterIndex
from harness.ops.mixtures import capped_log_ratio
from harness.ops.prototypes import squared_distances

Scale = Literal["plain", "squared"]
FLOOR = 1e-8  # added to every cluster's loss, so that none is out of the draw for ever
_LEAST_VARIANCE = 1e-12  # embeddings that are all equal have none


class MagnetLosses(NamedTuple):
    """Magnet loss of a batch.

    Attributes:
        loss: () mean.
        per_example: (m·d,), ≥ 0.
        variance: () of the members around the means of their clusters in the batch, > 0.
        nearest: (m·d,) int64 in [0, m), the cluster whose mean is nearest.
    """

    loss: Tensor
    per_example: Tensor
    variance: Tensor
    nearest: Tensor


def magnet_loss(
    x: Tensor, cluster_class: Tensor, *, alpha: float = 1.0, scale: Scale = "plain", eps: float = 0.0
) -> MagnetLosses:
    """Pull members to their cluster and push the clusters of other classes away (Rippel et al. 2016, eq. 5).

    loss_n = relu(s·d(r_n, own mean) + alpha + log Σ over clusters of other classes exp(−s·d(r_n, mean))), with means
    and variance v of the batch, through which gradients flow.

    Args:
        x: (m·d, D) float, cluster by cluster; d ≥ 1 members of each.
        cluster_class: (m,) int64 class of each cluster; equal ones do not repel. A number of its own for each cluster
            makes all others repel.
        alpha: margin, ≥ 0.
        scale: s = 1 / 2v ("plain", eq. 5: v is a variance), or 1 / 2v² ("squared", as most public code has it).
        eps: what public code adds to the denominator and to the ratio (1e-8), which caps a loss at −log(eps);
            0 for the plain formula, by log-sum-exp.

    Where all embeddings are equal, or no cluster is of another class, losses are finite and so are gradients.
    """
    clusters = x.unflatten(0, (len(cluster_class), -1))  # (m, d, D)
    mean = clusters.mean(1)  # (m, D)
    distance = (clusters.unsqueeze(2) - mean).square().sum(-1).flatten(0, 1)  # (m·d, m)
    member_of = torch.arange(len(mean), device=x.device).repeat_interleave(clusters.shape[1])  # (m·d,)
    own = distance.gather(1, member_of.unsqueeze(1)).squeeze(1)  # (m·d,)
    variance = (own.sum() / max(len(x) - 1, 1)).clamp(min=_LEAST_VARIANCE)
    s = 1 / (2 * (variance**2 if scale == "squared" else variance))
    is_own_class = cluster_class[member_of].unsqueeze(1) == cluster_class  # (m·d, m)
    others = (-s * distance).masked_fill(is_own_class, torch.finfo(x.dtype).min).logsumexp(1)
    per_example = (-capped_log_ratio(-s * own - alpha, others, eps)).relu()
    return MagnetLosses(per_example.mean(), per_example, variance, distance.detach().argmin(1))


def cluster_losses(
    losses: Tensor, is_measured: Tensor, assignment: Tensor, n_clusters: int, *, unmeasured: float = 0.0
) -> Tensor:
    """Mean of the latest losses of each cluster's members, and ``FLOOR`` (Rippel et al. 2016, §3.2).

    Args:
        losses: (N,) float, the latest of each example.
        is_measured: (N,) bool, whose loss is known; a loss of 0 is one.
        assignment: (N,) int64 in [0, n_clusters).
        n_clusters: K.
        unmeasured: loss of a cluster without a measured member.

    Returns:
        (K,) float, > 0.

    >>> cluster_losses(torch.tensor([2.0, 0.0, 9.0]), torch.tensor([True, True, False]), torch.tensor([0, 0, 1]), 2)
    tensor([1.0000e+00, 1.0000e-08])
    """
    known = is_measured.to(losses)
    total = losses.new_zeros(n_clusters).index_add(0, assignment, losses * known)
    count = losses.new_zeros(n_clusters).index_add(0, assignment, known)
    return torch.where(count > 0, total / count.clamp(min=1), unmeasured) + FLOOR


def seed_probability(losses: Tensor) -> Tensor:
    """Chance of each cluster to be the seed of a batch, in proportion to its loss: (K,) → (K,)."""
    return losses / losses.sum()


def impostors(centroid: Tensor, cluster_class: Tensor, seed: int, n: int) -> Tensor:
    """Clusters of other classes that are nearest to a seed cluster.

    Args:
        centroid: (K, D) float.
        cluster_class: (K,) int64.
        seed: which cluster.
        n: how many, ≥ 0.

    Returns:
        (≤ n,) int64, the nearest first; fewer where other classes have fewer clusters.
    """
    distance = squared_distances(centroid[seed : seed + 1], centroid).squeeze(0)  # (K,)
    other = (cluster_class != cluster_class[seed]).nonzero().squeeze(1)
    return other[distance[other].argsort(stable=True)[:n]]


class ClusterBatch(NamedTuple):
    """What one step trains on.

    Attributes:
        rows: (m, d) int64 examples, a row for each cluster, the seed's first.
        cluster_class: (m,) int64 class of each cluster.
    """

    rows: Tensor
    cluster_class: Tensor


def draw_cluster_batch(
    index: ClusterIndex, losses: Tensor, k: int, m: int, d: int, rng: torch.Generator
) -> ClusterBatch:
    """Draw a seed by cluster loss, its m − 1 nearest impostors, and d members of each (Rippel et al. 2016, §3.2).

    Args:
        index: on the CPU; empty clusters are passed over.
        losses: (K,) float, of ``cluster_losses``.
        k: clusters of a class.
        m: clusters; fewer where other classes have fewer.
        d: members of each cluster, without replacement where it has so many, else with.
        rng: CPU generator.
    """
    filled = index.size.nonzero().squeeze(1)  # clusters that have members
    owner = filled // k
    seed = int(torch.multinomial(seed_probability(losses[filled].double()), 1, generator=rng))
    near = impostors(index.centroid[filled], owner, seed, m - 1)
    chosen = torch.cat([near.new_tensor([seed]), near])
    rows = torch.stack([_members(index, int(c), d, rng) for c in filled[chosen]])
    return ClusterBatch(rows, owner[chosen])


def _members(index: ClusterIndex, cluster: int, d: int, rng: torch.Generator) -> Tensor:
    members = (index.assignment == cluster).nonzero().squeeze(1)
    n = len(members)
    chosen = torch.randperm(n, generator=rng)[:d] if n >= d else torch.randint(n, (d,), generator=rng)
    return members[chosen]
