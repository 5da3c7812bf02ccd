"""Comparison of two sets of node vectors by optimal transport (Zhang et al. 2020, DeepEMD).

An image is a set of L nodes: the locations of its map, or crops of it. Leading axes (episodes) are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness.errors import ConfigError
from harness.ops.binocular import locations
from harness.ops.precision import full_precision
from harness.ops.prototypes import squared_distances
from harness.ops.transport import Form, Solver, transport

Gradient = Literal["full", "flow-only"]
"""Through costs and masses (the authors' qpth mode), or through the costs alone (their opencv mode)."""
Metric = Literal["cosine", "l2"]
"""Similarity of centred nodes: their cosine, or 1 minus their squared distance."""

FLOOR = 1e-3
"""Least weight of a node."""
LEAST_VARIANCE = 1e-24
"""Of a node over its channels; one of equal channels is similar to nothing."""
OPENCV_EXTRA = 1e-5
"""What the authors' opencv mode, and so their evaluation, adds to every weight before it normalises."""


def map_nodes(maps: Tensor, levels: Sequence[int] = ()) -> Tensor:
    """Read feature maps as nodes: those of each pooled level in the order given, then the locations of the map itself.

    Args:
        maps: (n, D, h, w) float.
        levels: k of each pooled level of k·k cells, row by row (adaptive averages); the feature pyramid.

    Returns:
        (n, Σ k² + h·w, D).

    >>> map_nodes(torch.arange(4.0).reshape(1, 1, 2, 2), (1,)).flatten()
    tensor([1.5000, 0.0000, 1.0000, 2.0000, 3.0000])
    """
    pooled = [functional.adaptive_avg_pool2d(maps, level) for level in levels]
    return torch.cat([locations(level) for level in (*pooled, maps)], dim=1)  # (n, L, D)


def cross_reference_weights(nodes: Tensor, others: Tensor) -> Tensor:
    """Weigh every node by its product with the mean node of the other set, at least 1e-3.

    This is DeepEMD's cross-reference mechanism. Both are raw features, not centred ones: their length counts.

    Args:
        nodes: (..., A, L, D) float, A sets of L nodes.
        others: (..., B, M, D) float.

    Returns:
        (..., A, B, L) ≥ 1e-3; [a, b] weighs the nodes of set a against set b. Not normalised.

    >>> cross_reference_weights(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[2.0], [4.0]]]))
    tensor([[[3.0010, 9.0010]]])
    """
    return torch.einsum("...ild,...jd->...ijl", nodes, others.mean(dim=-2)).relu() + FLOOR


def masses(weights: Tensor, *, extra: float = 0.0) -> Tensor:
    """Divide weights by their sum, in float64: sums in float32 are unequal enough to make exact solvers differ.

    Args:
        weights: (..., L) float ≥ 0 with a positive sum.
        extra: added to every weight first, ≥ 0; ``OPENCV_EXTRA`` in the authors' opencv mode, else 0.

    Returns:
        (..., L) float64 of unit sum.

    >>> masses(torch.tensor([1.0, 3.0]))
    tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    shifted = weights.double() + extra
    return shifted / shifted.sum(dim=-1, keepdim=True)


def node_similarities(query: Tensor, prototypes: Tensor, *, metric: Metric = "cosine") -> Tensor:
    """Compare every node of every query with every node of every prototype, each less its mean over channels.

    Args:
        query: (..., Q, L, D) float.
        prototypes: (..., W, M, D) float.
        metric: see ``Metric``.

    Returns:
        (..., Q, W, L, M); at most 1, for the cosine at least −1 (a correlation over channels).
    """
    if metric == "l2":
        query, prototypes = (x - x.mean(dim=-1, keepdim=True) for x in (query, prototypes))
        return 1 - squared_distances(query.unsqueeze(-3), prototypes.unsqueeze(-4))  # (..., Q, W, L, M)
    n_channels = query.shape[-1]
    query, prototypes = (  # centred, of length √D: one pass, forward and back
        functional.layer_norm(x, (n_channels,), eps=LEAST_VARIANCE) for x in (query, prototypes)
    )
    # the smaller set on the left: the product takes a sixth less time
    return torch.einsum("...wmd,...qld->...qwlm", prototypes / n_channels, query)


def node_scores(
    query: Tensor,
    prototypes: Tensor,
    *,
    temperature: float = 12.5,
    grad: Gradient = "full",
    extra: float = 0.0,
    metric: Metric = "cosine",
    solver: Solver = "exact",
    form: Form = "L2",
    l2_strength: float = 1e-6,
) -> Tensor:
    """Score classes by the similarity of nodes, averaged under the optimal transport of their masses.

    temperature · Σ flow·similarity = temperature · (1 − V) with V the least cost Σ flow·(1 − similarity) of moving
    the query's masses to the prototype's. The head of training and evaluation alike.

    Args:
        query: (..., Q, L, D) float nodes of the queries.
        prototypes: (..., W, M, D) float nodes of the classes.
        temperature: factor of the scores, > 0 (published: 12.5).
        grad: see ``Gradient``; "flow-only" is the one of solvers without duals.
        extra: see ``masses``.
        metric: see ``Metric``.
        solver: see ``transport``, as ``form`` and ``l2_strength``.
        form: of qpth.
        l2_strength: of qpth.

    Returns:
        (..., Q, W) scores in [−temperature, temperature] for the cosine; float32, or float64 for float64 nodes.

    Raises:
        ConfigError: the full gradient of a solver that has none, an unknown solver, a missing package.
        TransportError: nodes that are not finite.
    """
    if grad == "full" and solver == "opencv":
        raise ConfigError(
            "solver=opencv gives no duals, so there is no gradient through the masses. Ask for grad=flow-only, as its "
            "authors do, or take solver=exact."
        )
    query, prototypes = full_precision(query), full_precision(prototypes)
    similarity = node_similarities(query, prototypes, metric=metric)  # (..., Q, W, L, M)
    of_query = masses(cross_reference_weights(query, prototypes), extra=extra)  # (..., Q, W, L)
    of_prototypes = masses(cross_reference_weights(prototypes, query), extra=extra).transpose(
        -2, -3
    )  # (..., Q, W, M)
    similarity_of_each = similarity.flatten(0, -3)  # (B, L, M)
    with torch.set_grad_enabled(torch.is_grad_enabled() and grad == "full"):
        found = transport(
            1 - similarity_of_each,
            of_query.flatten(0, -2),
            of_prototypes.flatten(0, -2),
            solver,
            form=form,
            l2_strength=l2_strength,
        )
    mean = 1 - found.value if grad == "full" else (found.flow * similarity_of_each).sum(dim=(1, 2))  # (B,)
    return temperature * mean.unflatten(0, similarity.shape[:-2]).to(similarity.dtype)  # (..., Q, W)
