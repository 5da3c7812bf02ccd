"""Fine-tuning of a whole network in an episode (Dhillon et al. 2020, arXiv:1909.02729, §3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.ops.normalise import l2_normalise
from harness.ops.prototypes import class_means_by_label

_CHUNK = 75  # images that pass through together: batch statistics are theirs


class OnLogits(nn.Module):
    """A linear classifier of an episode on the logits that a network gives of its base classes.

    Logits go through a ReLU and are divided by their length. The classifier begins at the mean of each class, made unit
    long, without a bias.

    Args:
        network: (b, c, H, W) → (b, C) logits; in evaluation mode.
        x, y: support images (n, c, H, W) and their labels (n,) int64, every class among them.
        n_way: number of classes W.
    """

    def __init__(self, network: nn.Module, x: Tensor, y: Tensor, n_way: int) -> None:
        super().__init__()
        self.network = network
        begin = l2_normalise(class_means_by_label(self._positive(x), y, n_way))  # (W, C)
        self.head = nn.utils.skip_init(nn.Linear, begin.shape[1], n_way)  # draws nothing
        self.head.weight.data, self.head.bias.data = begin, begin.new_zeros(n_way)

    def forward(self, images: Tensor) -> Tensor:
        """(b, c, H, W) → (b, W)."""
        scores: Tensor = self.head(l2_normalise(self._positive(images)))
        return scores

    def _positive(self, images: Tensor) -> Tensor:
        return torch.cat([self.network(part) for part in images.split(_CHUNK)]).relu()  # (b, C)


def fine_tune(task: nn.Module, x: Tensor, y: Tensor, query: Tensor | None, *, epochs: int, lr: float) -> None:
    """Move all weights of a network for an episode, in place.

    In each epoch Adam takes a step on the cross-entropy of the support and, where there are queries, a second one on the
    mean entropy of their predictions.

    Args:
        task: (b, c, H, W) → (b, W); gradients are on.
        x, y: support images and their labels (n,) int64.
        query: images, or None.
        epochs: ≥ 0.
        lr: step size, > 0.
    """
    optimiser = torch.optim.Adam(task.parameters(), lr=lr)
    for _ in range(epochs):
        _step(optimiser, functional.cross_entropy(task(x), y))
        if query is not None:
            _step(optimiser, torch.distributions.Categorical(logits=task(query)).entropy().mean())


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
