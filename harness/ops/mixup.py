"""Mixup of images or of hidden maps (Zhang et al. 2018, arXiv:1710.09412; Verma et al. 2019, arXiv:1806.05236)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


class Mix(NamedTuple):
    """Each item of a batch mixed with another one.

    Attributes:
        partner: (b,) int64, a permutation.
        share: of the item itself, in [0, 1].
    """

    partner: Tensor
    share: float

    def of(self, x: Tensor) -> Tensor:
        """Mix the items of a batch: (b, ...) → (b, ...).

        >>> Mix(torch.tensor([1, 0]), 0.75).of(torch.tensor([[0.0], [4.0]])).flatten().tolist()
        [1.0, 3.0]
        """
        return self.share * x + (1 - self.share) * x[self.partner]

    def loss(self, scores: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy () of scores (b, C) for labels (b,) mixed as the items are, and smoothed over all classes."""
        own, other = (
            functional.cross_entropy(scores, y, label_smoothing=smoothing)
            for y in (label, label[self.partner])
        )
        return self.share * own + (1 - self.share) * other


def draw_mix(n: int, alpha: float, rng: torch.Generator) -> Mix:
    """Draw partners, and one share of Beta(alpha, alpha) for all of a batch.

    Args:
        n: items.
        alpha: > 0.
        rng: CPU generator.
    """
    partner = torch.randperm(n, generator=rng)
    seed = int(torch.randint(2**62, (), generator=rng))
    return Mix(partner, float(np.random.default_rng(seed).beta(alpha, alpha)))
