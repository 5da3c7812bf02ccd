"""DeepEMD's structured fully connected layer (§3.5): the nodes of each class, fitted in the episode by SGD."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Head = Callable[[Tensor, Tensor], Tensor]
"""Queries (E, b, L, D) and class nodes (E, W, L, D) to scores (E, b, W)."""


def fit_sfc(
    support: Tensor,
    target: Tensor,
    start: Tensor,
    orders: Tensor,
    head: Head,
    *,
    lr: float = 100.0,
    weight_decay: float = 0.0,
    batch_size: int = 4,
) -> Tensor:
    """Fit class nodes to the support by the cross-entropy of the 1-shot head, for many episodes at once.

    SGD with momentum 0.9 and dampening 0.9 in torch's form: the first step takes the bare gradient. Each step is
    taken in all episodes together; they do not influence each other.

    Args:
        support: (E, n, L, D) float nodes of the support images.
        target: (E, n) int64 in [0, W).
        start: (E, W, L, D) float, where the fit starts: the class means.
        orders: (E, passes, n) int64; row p of an episode is the order in which pass p walks its support.
        head: scores of queries by class nodes; its gradient for the class nodes is used.
        lr: step size, > 0 (published: 100 at test).
        weight_decay: multiple of the nodes added to the gradient, ≥ 0.
        batch_size: support images per step, ≥ 1; the last step of a pass may have fewer.

    Returns:
        (E, W, L, D) fitted nodes, without gradient.

    Raises:
        TransportError: nodes that are no longer finite.
    """
    sfc = start.detach().clone().requires_grad_()
    optimiser = torch.optim.SGD([sfc], lr=lr, momentum=0.9, dampening=0.9, weight_decay=weight_decay)
    episode = torch.arange(len(support), device=support.device)[:, None]  # (E, 1)
    with torch.enable_grad():
        for order in orders.to(support.device).unbind(1):  # (E, n)
            for rows in order.split(batch_size, dim=1):  # (E, b)
                scores = head(support[episode, rows], sfc)  # (E, b, W)
                loss = functional.cross_entropy(
                    scores.flatten(0, 1), target[episode, rows].flatten(), reduction="sum"
                )
                (sfc.grad,) = torch.autograd.grad(loss / rows.shape[1], sfc)
                optimiser.step()
    return sfc.detach()
