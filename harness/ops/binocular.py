"""The losses of a global and a local view of one image (Zhou et al. 2021, Binocular Mutual Learning).

Maps are (…, C, h, w); R = h·w counts the locations of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness.ops.prototypes import squared_distances


def locations(maps: Tensor) -> Tensor:
    """Turn feature maps (..., C, h, w) into one vector per location, (..., R, C), row by row."""
    return maps.flatten(-2).transpose(-1, -2)


def dense_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over all locations of all images, each location having its image's class.

    Args:
        scores: (n, R, W) float.
        target: (n,) int64 in [0, W).

    Returns:
        () loss, ≥ 0.
    """
    n, n_locations, n_classes = scores.shape
    at_each = target.unsqueeze(1).expand(n, n_locations)  # (n, R)
    return functional.cross_entropy(scores.reshape(-1, n_classes), at_each.reshape(-1))


def location_distances(support: Tensor, query: Tensor) -> Tensor:
    """Squared distance of every query location to every class mean over shots and locations.

    Args:
        support: (W, S, C, h, w) float maps.
        query: (n, C, h, w) float maps.

    Returns:
        (n, R, W).
    """
    prototypes = support.mean(dim=(1, 3, 4))  # (W, C)
    return squared_distances(locations(query).flatten(0, 1), prototypes).unflatten(0, (len(query), -1))


def elastic_margin(
    distances: Tensor, target: Tensor, *, progress: float, strength: float = 5.5, slope: float = 0.1
) -> Tensor:
    """Extra distance to the true class for queries that are neither easy nor hopeless (Zhou et al. 2021).

    With p = softmax(−d) and h the nearest wrong class, it is 0 where p of the true class or of h exceeds 0.5,
    and strength·(progress + 1e-8)·sigmoid(slope·(d_true − d_h)) elsewhere. A constant for the gradient.

    Args:
        distances: (..., W) float squared distances, W ≥ 2.
        target: (...) int64 in [0, W).
        progress: share of the epochs done, the present one included, in (0, 1].
        strength: largest margin, ≥ 0 (the authors' alpha_1); 0 switches it off.
        slope: steepness of the sigmoid (the authors' alpha_2).

    Returns:
        (...) margin in [0, strength].
    """
    distances = distances.detach()
    true = functional.one_hot(target, distances.shape[-1]).bool()  # (..., W)
    p = torch.softmax(-distances, dim=-1)
    d_true = distances[true].reshape(target.shape)
    d_wrong = distances.masked_fill(true, torch.inf).amin(dim=-1)
    # The nearest wrong class is also the likeliest one, so p_true and p_h exceed 0.5 where the largest p does.
    is_open = p.amax(dim=-1) <= 0.5
    return strength * (progress + 1e-8) * torch.sigmoid(slope * (d_true - d_wrong)) * is_open


def elastic_scores(
    distances: Tensor, target: Tensor, *, progress: float, strength: float = 5.5, slope: float = 0.1
) -> Tensor:
    """Training scores of the local view: minus the distances, the true class pushed away by the elastic margin.

    Args:
        distances: (n, R, W) float.
        target: (n,) int64 in [0, W), the class of each query.
        progress: as in ``elastic_margin``.
        strength: as in ``elastic_margin``.
        slope: as in ``elastic_margin``.

    Returns:
        (n, R, W); their ``dense_cross_entropy`` is the local loss.
    """
    at_each = target.unsqueeze(1).expand(distances.shape[:2])  # (n, R)
    margin = elastic_margin(distances, at_each, progress=progress, strength=strength, slope=slope)
    true = functional.one_hot(at_each, distances.shape[-1])  # (n, R, W)
    return -(distances + margin.unsqueeze(-1) * true)


def divergence(a: Tensor, b: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Kullback-Leibler divergence of the soft-maxed features of one view from those of the other.

    temperature² / n · Σ q (log q − log p) with p = softmax(a / temperature) over the D *feature* dimensions, and q of
    b likewise. Gradients reach both arguments: neither side is a fixed teacher.

    Args:
        a: (n, D) float pooled features of the view that follows.
        b: (n, D) float pooled features of the view that it follows.
        temperature: > 0.

    Returns:
        () divergence, ≥ 0.
    """
    log_p, log_q = _log_shares(a, temperature), _log_shares(b, temperature)  # (n, D)
    return temperature**2 / len(a) * (log_q.exp() * (log_q - log_p)).sum()


def mutual_divergence(a: Tensor, b: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Both directions of ``divergence``: temperature² / n · Σ (p − q)(log p − log q).

    Args:
        a: (n, D) float pooled features of one view.
        b: (n, D) float pooled features of the other.
        temperature: > 0.

    Returns:
        () divergence, ≥ 0.
    """
    log_p, log_q = _log_shares(a, temperature), _log_shares(b, temperature)  # (n, D)
    return temperature**2 / len(a) * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


def _log_shares(x: Tensor, temperature: float) -> Tensor:
    """(n, D) features as the logarithms of a distribution over their dimensions."""
    return functional.log_softmax(x / temperature, dim=-1)


def root_features(maps: Tensor) -> Tensor:
    """Clip maps at 0, take the square root and flatten: the evaluation features of BML.

    Args:
        maps: (..., C, h, w) float, any sign.

    Returns:
        (..., C·h·w), ≥ 0, in channel, row, column order.
    """
    return maps.clamp(min=0).sqrt().flatten(-3)
