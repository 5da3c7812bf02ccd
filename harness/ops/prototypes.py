"""Prototypes, distances to them and the prototypical loss; every function takes leading episode axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from harness.ops.normalise import l2_normalise


def class_means(support: Tensor) -> Tensor:
    """Average the shots of each class into its prototype (Snell et al. 2017, eq. 1).

    Args:
        support: (..., W, S, D) float.

    Returns:
        (..., W, D).

    >>> class_means(torch.tensor([[[0.0, 2.0], [2.0, 4.0]]]))
    tensor([[1., 3.]])
    """
    return support.squeeze(-2) if support.shape[-2] == 1 else support.mean(dim=-2)  # (..., W, D)


class Labelled(NamedTuple):
    """Rows (E, n, D) in class order, and their labels (E, n) int64."""

    x: Tensor
    y: Tensor


def labelled(support: Tensor) -> Labelled:
    """Write the classes of a support (E, W, S, D) one below the other, with the label of each row."""
    n_episodes, n_way, shot = support.shape[:3]
    y = torch.arange(n_way, device=support.device).repeat_interleave(shot)  # (W·S,)
    return Labelled(support.flatten(1, 2), y.expand(n_episodes, -1))


def class_means_by_label(x: Tensor, y: Tensor, n_way: int) -> Tensor:
    """Average the rows of each label; shots may differ from class to class.

    Args:
        x: (n, D) float.
        y: (n,) int64 in [0, n_way); every class occurs.
        n_way: number of classes W.

    Returns:
        (W, D).

    Raises:
        ValueError: a class without a row.

    >>> class_means_by_label(torch.tensor([[1.0], [5.0], [3.0]]), torch.tensor([0, 1, 0]), 2)
    tensor([[2.],
            [5.]])
    """
    count = torch.bincount(y, minlength=n_way)  # (W,)
    if int(count.min()) == 0:
        raise ValueError(f"classes without support: {torch.nonzero(count == 0).flatten().tolist()}")
    total = x.new_zeros(n_way, x.shape[-1]).index_add(0, y, x)  # (W, D)
    return total / count.to(x.dtype).unsqueeze(-1)


class LabelMeans(NamedTuple):
    """Class means where some labels may have no support.

    Attributes:
        means: (W, D), zero where a label has no row.
        is_known: (W,) bool, whether it has any.
    """

    means: Tensor
    is_known: Tensor

    def unknown_last(self, scores: Tensor) -> Tensor:
        """Scores (..., W) with labels that have no support below all others."""
        return scores.masked_fill(~self.is_known, torch.finfo(scores.dtype).min)


def streamed_means(batches: Iterable[tuple[Tensor, Tensor]], n_way: int) -> LabelMeans:
    """Average the rows of each label over batches, so that not all rows need to be there at once.

    Args:
        batches: x (b, D) float, y (b,) int64 in [0, n_way); at least one.
        n_way: number of labels W.

    >>> batches = [(torch.tensor([[1.0], [5.0]]), torch.tensor([0, 2])), (torch.tensor([[3.0]]), torch.tensor([0]))]
    >>> streamed_means(batches, 3).means.T, streamed_means(batches, 3).is_known
    (tensor([[2., 0., 5.]]), tensor([ True, False,  True]))
    """
    total = count = None
    for x, y in batches:
        if total is None or count is None:
            total, count = x.new_zeros(n_way, x.shape[-1]), x.new_zeros(n_way)
        total.index_add_(0, y, x)
        count.index_add_(0, y, torch.ones_like(y, dtype=count.dtype))
    assert total is not None and count is not None, "there is no batch"
    return LabelMeans(total / count.clamp(min=1).unsqueeze(-1), count > 0)  # (W, D), (W,)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance of every row of a to every row of b, as |a|² − 2a·b + |b|².

    The expansion is one matrix product; rounding can make a distance of (nearly) equal vectors slightly
    negative, at most about 1e-6·|a|² in float32. It is not clamped, so gradients stay exact: clamp before
    taking a root.

    Args:
        a: (..., n, D) float.
        b: (..., m, D) float.

    Returns:
        (..., n, m).

    >>> squared_distances(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[25.],
            [13.]])
    """
    length_a = a.square().sum(dim=-1).unsqueeze(-1)  # (..., n, 1)
    length_b = b.square().sum(dim=-1).unsqueeze(-2)  # (..., 1, m)
    return length_a + length_b - 2 * (a @ b.transpose(-1, -2))  # (..., n, m)


def distance_scores(query: Tensor, prototypes: Tensor) -> Tensor:
    """Score classes by minus the squared distance to their prototype (Snell et al. 2017, eq. 2).

    Args:
        query: (..., Q, D) float.
        prototypes: (..., W, D) float.

    Returns:
        (..., Q, W), higher is likelier; the soft-max over W is the class posterior.
    """
    return -squared_distances(query, prototypes)


def linear_scores(query: Tensor, prototypes: Tensor) -> Tensor:
    """Rank classes as ``distance_scores`` does, without the |query|² that all classes share.

    The nearest prototype is a linear model with weights 2·p and biases −|p|² (Snell et al. 2017, eq. 8): one
    batched matrix product, and the same soft-max.

    Args:
        query: (E, Q, D) float.
        prototypes: (E, W, D) float.

    Returns:
        (E, Q, W), higher is likelier.

    >>> linear_scores(torch.tensor([[[1.0]]]), torch.tensor([[[1.0], [3.0]]]))
    tensor([[[ 1., -3.]]])
    """
    bias = prototypes.square().sum(dim=-1).unsqueeze(-2)  # (E, 1, W)
    return torch.baddbmm(bias, query, prototypes.transpose(-1, -2), beta=-1, alpha=2)  # (E, Q, W)


def cosine_scores(query: Tensor, prototypes: Tensor) -> Tensor:
    """Score classes by the cosine of the angle to their prototype.

    Args:
        query: (..., Q, D) float.
        prototypes: (..., W, D) float.

    Returns:
        (..., Q, W) in [-1, 1]; a zero vector scores 0 everywhere.
    """
    return l2_normalise(query) @ l2_normalise(prototypes).transpose(-1, -2)  # (..., Q, W)


class EpisodeLoss(NamedTuple):
    """Loss and scores of one or more training episodes.

    Attributes:
        loss: () mean over episodes, classes and queries, ≥ 0.
        scores: (..., W·Q, W) class-major: row r belongs to class r // Q.
        target: (..., W·Q) int64 in [0, W), the class of each row.
    """

    loss: Tensor
    scores: Tensor
    target: Tensor


def episode_loss(scores: Tensor) -> EpisodeLoss:
    """Cross-entropy of the queries of an episode, as many of each class.

    Args:
        scores: (W·Q, W) float, class-major.
    """
    n_way = scores.shape[-1]
    target = torch.arange(n_way, device=scores.device).repeat_interleave(len(scores) // n_way)  # (W·Q,)
    return EpisodeLoss(functional.cross_entropy(scores, target), scores, target)


def prototypical_loss(
    support: Tensor, query: Tensor, scores: Callable[[Tensor, Tensor], Tensor] = distance_scores
) -> EpisodeLoss:
    """Soft-max cross-entropy over minus squared distances to the class means (Snell et al. 2017, alg. 1).

    Gradients flow through the queries and the prototypes.

    Args:
        support: (..., W, S, D) float.
        query: (..., W, Q, D) float, Q queries of each class.
        scores: (..., W·Q, D) queries, (..., W, D) prototypes → (..., W·Q, W); another measure of nearness.

    Returns:
        The mean loss over all queries, with the scores and targets it was computed from.
    """
    *batch, n_way, n_query, _ = query.shape
    given = scores(query.flatten(-3, -2), class_means(support))  # (..., W·Q, W)
    target = torch.arange(n_way, device=query.device).repeat_interleave(n_query)  # (W·Q,)
    target = target.expand(*batch, n_way * n_query)
    loss = functional.cross_entropy(given.reshape(-1, n_way), target.reshape(-1))
    return EpisodeLoss(loss, given, target)
