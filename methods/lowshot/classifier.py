"""A linear classifier of base classes on their features, where a network came without one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.ops.softmax_regression import draw_distinct

_BATCH = 1000  # features in a step, without repetition


@torch.enable_grad()
def fit_classifier(classifier: nn.Linear, x: Tensor, y: Tensor, n_steps: int, rng: torch.Generator) -> None:
    """Train it in place, as the authors do without a network's own: SGD, step size 0.1, momentum 0.9, decay 1e-4.

    Args:
        classifier: D features to the base classes.
        x: (N, D) float features, maybe memory-mapped.
        y: (N,) int64 base classes.
        n_steps: of 1,000 features (published: 10,000).
        rng: CPU generator.
    """
    device = classifier.weight.device
    optimiser = torch.optim.SGD(classifier.parameters(), 0.1, 0.9, weight_decay=1e-4)
    for _ in range(n_steps):
        rows = draw_distinct(len(x), min(_BATCH, len(x)), 1, rng)[0]
        optimiser.zero_grad()
        scores = classifier(x[rows].to(device))
        functional.cross_entropy(scores, y[rows].to(device)).backward()
        optimiser.step()
