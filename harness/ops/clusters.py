"""k-means, for all classes at once: what Magnet's index and RepMet's first representatives are made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.ops.prototypes import squared_distances


class ClusterIndex(NamedTuple):
    """k clusters of each class; class c owns rows c·k … c·k + k − 1.

    Attributes:
        centroid: (C·k, D). Where a class has fewer distinct members than clusters, some centroids own nothing.
        assignment: (N,) int64 in [0, C·k), the cluster of each member.
        size: (C·k,) int64 members of each cluster; 0 where it is empty.
    """

    centroid: Tensor
    assignment: Tensor
    size: Tensor


def cluster_index(
    x: Tensor,
    label: Tensor,
    n_classes: int,
    k: int,
    *,
    rng: torch.Generator,
    start: Tensor | None = None,
    n_starts: int = 4,
    max_iter: int = 20,
) -> ClusterIndex:
    """Cluster each class by itself (Rippel et al. 2016, §3.2): k-means++, or from where the centroids were.

    All classes are padded to the largest and run together.

    Args:
        x: (N, D) float, on any device.
        label: (N,) int64 in [0, n_classes), on the same device; a class without members has empty clusters at 0.
        n_classes, k: C and clusters of a class, ≥ 1.
        rng: CPU generator of the starts.
        start: (C·k, D) centroids to go on from; no start is drawn then.
        n_starts: k-means++ starts; of each class the tightest clustering is kept.
        max_iter: passes of Lloyd's algorithm at most.
    """
    order = label.argsort(stable=True)
    count = label.bincount(minlength=n_classes)  # (C,)
    place = torch.arange(len(x), device=x.device) - (count.cumsum(0) - count)[label[order]]
    members = x.new_zeros(n_classes, max(1, int(count.max())), x.shape[-1])  # (C, n, D)
    members[label[order], place] = x[order]
    is_member = torch.arange(members.shape[1], device=x.device) < count[:, None]  # (C, n)

    if start is not None:
        centroid, _ = lloyd(members, is_member, start.unflatten(0, (n_classes, k)), max_iter)
    else:
        centroid = _best_of(n_starts, members, is_member, k, rng, max_iter)
    nearest = squared_distances(members, centroid).argmin(-1)  # (C, n)
    assignment = torch.empty_like(label)
    assignment[order] = label[order] * k + nearest[label[order], place]
    return ClusterIndex(centroid.flatten(0, 1), assignment, assignment.bincount(minlength=n_classes * k))


def _best_of(
    n_starts: int, members: Tensor, is_member: Tensor, k: int, rng: torch.Generator, max_iter: int
) -> Tensor:
    """(C, k, D) centroids of the start that ends tightest, class by class."""
    best, least = None, None
    for _ in range(n_starts if k > 1 else 1):
        centroid, spread = lloyd(members, is_member, _plus_plus(members, is_member, k, rng), max_iter)
        if best is None or least is None:
            best, least = centroid, spread
        else:
            better = spread < least
            best = torch.where(better[:, None, None], centroid, best)
            least = torch.where(better, spread, least)
    assert best is not None, "n_starts must be at least 1"
    return best


def lloyd(members: Tensor, is_member: Tensor, centroid: Tensor, max_iter: int) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on many sets of points at once; a centroid that has lost all its points is given a far one.

    That is the point farthest from its own centroid, as in scikit-learn; where all lie on theirs, the empty one stays
    where it is. Without it centroids that go on from where they were run empty one by one, and stay so.

    Args:
        members: (B, n, D) float, padded.
        is_member: (B, n) bool, what is no padding.
        centroid: (B, k, D) to start from.
        max_iter: passes at most; it ends when no point changes its centroid.

    Returns:
        (B, k, D) centroids, and (B,) the sum of squared distances to the nearest of them.
    """
    k, before = centroid.shape[1], None
    for _ in range(max_iter):
        distance, nearest = squared_distances(members, centroid).min(-1)  # (B, n)
        if before is not None and torch.equal(nearest, before):
            break
        before = nearest
        own = torch.nn.functional.one_hot(nearest, k).to(members) * is_member.unsqueeze(-1)  # (B, n, k)
        own = _with_none_empty(own, distance * is_member)
        size = own.sum(1).unsqueeze(-1)  # (B, k, 1)
        centroid = torch.where(size > 0, own.mT @ members / size.clamp(min=1), centroid)  # (B, k, D)
    least = squared_distances(members, centroid).amin(-1).clamp(min=0)  # (B, n)
    return centroid, (least * is_member).sum(-1)


def _with_none_empty(own: Tensor, distance: Tensor) -> Tensor:
    """Move the points that lie farthest from their centroids into the clusters that have none.

    Args:
        own: (B, n, k) 0 or 1, whose member each point is.
        distance: (B, n) of each point to its centroid, 0 where it is padding.
    """
    empty = own.sum(1) == 0  # (B, k)
    if not empty.any():
        return own
    n, k = own.shape[1:]
    far = distance.topk(min(n, k), dim=1)
    place = (empty.cumsum(1) - 1).clamp(0, min(n, k) - 1)  # (B, k): the first empty one takes the farthest
    takes = empty & (far.values.gather(1, place) > 0)
    moved = torch.nn.functional.one_hot(far.indices.gather(1, place), n).mT * takes.unsqueeze(1)  # (B, n, k)
    return torch.where(moved.any(-1, keepdim=True), moved.to(own), own)


def _plus_plus(members: Tensor, is_member: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """k-means++ of Arthur and Vassilvitskii (2007): each next centroid by squared distance to those there are."""
    weight = is_member.to(members)  # (B, n)
    chosen: list[Tensor] = []
    for _ in range(k):
        left = weight.sum(-1, keepdim=True)
        weight = torch.where(left > 0, weight, is_member.to(members))  # all members are centroids already
        draw = torch.rand(len(members), 1, generator=rng, dtype=torch.float64).to(members)
        height = weight.cumsum(-1)
        row = (height <= draw * height[:, -1:]).sum(-1, keepdim=True)  # (B, 1)
        row = row.clamp(max=members.shape[1] - 1)
        chosen.append(members.gather(1, row.unsqueeze(-1).expand(-1, -1, members.shape[-1])))  # (B, 1, D)
        distance = squared_distances(members, chosen[-1]).squeeze(-1).clamp(min=0) * is_member
        weight = distance if len(chosen) == 1 else torch.minimum(weight, distance)
    return torch.cat(chosen, dim=1)  # (B, k, D)


def spread_start(members: Tensor, k: int) -> Tensor:
    """Start without chance: the point nearest the mean, then always the one farthest from those taken.

    Args:
        members: (B, n, D) float, n ≥ 1.
        k: points to take, in [1, n].

    Returns:
        (B, k, D) float.

    >>> spread_start(torch.tensor([[[0.0], [1.0], [5.0]]]), 2).flatten().tolist()
    [1.0, 5.0]
    """
    distance = squared_distances(members, members.mean(1, keepdim=True)).squeeze(-1)  # (B, n)
    row = distance.argmin(-1)
    chosen = []
    nearest = torch.full_like(distance, torch.inf)
    for _ in range(k):
        point = members.gather(1, row[:, None, None].expand(-1, 1, members.shape[-1]))  # (B, 1, D)
        chosen.append(point)
        nearest = torch.minimum(nearest, squared_distances(members, point).squeeze(-1))
        row = nearest.argmax(-1)
    return torch.cat(chosen, dim=1)
