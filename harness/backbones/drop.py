"""The drop layers between residual stages: plain dropout early, ramped DropBlock late."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from harness.errors import ConfigError
from harness.ops.dropblock import drop, keep_mask, keep_mask_as_published, seed_rate

Squares = Literal["full", "as-published"]
"""Whether DropBlock clears its whole squares or only the cells the published code reaches."""


class DropBlock(nn.Module):
    """Drop squares of a feature map in training mode, with a rate that ramps up over 40,000 batches.

    Seeds come from torch's global generator, as in ``nn.Dropout``. The batch counter is a buffer: it counts
    training batches only and travels with checkpoints.

    Args:
        drop_rate: nominal share of dropped values, in (0, 1).
        block_size: side of the squares in cells of the map.
        side: side of the feature map this layer will see, at least ``block_size``.
        squares: see ``Squares``.

    Raises:
        ConfigError: the map is smaller than one square.
    """

    num_batches_tracked: Tensor

    def __init__(self, drop_rate: float, block_size: int, side: int, squares: Squares = "full") -> None:
        super().__init__()
        if block_size > side:
            raise ConfigError(
                f"DropBlock was asked for {block_size}×{block_size} squares on a {side}×{side} feature map. "
                f"Choose block_size ≤ {side}, larger images, or drop_rate 0."
            )
        self.drop_rate = drop_rate
        self.block_size = block_size
        self.mask = keep_mask if squares == "full" else keep_mask_as_published
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, C, h, w) to the same shape; the identity in evaluation mode."""
        if not self.training:
            return x
        b, c, h, w = x.shape
        border = self.block_size - 1
        rate = seed_rate(self.drop_rate, self.block_size, h, self.num_batches_tracked)
        self.num_batches_tracked += 1
        seeds = torch.rand(b, c, h - border, w - border, device=x.device) < rate
        return drop(x, self.mask(seeds, self.block_size))


def drop_layer(stage: int, drop_rate: float, block_size: int, side: int, squares: Squares) -> nn.Module:
    """Build what follows each block of a stage: nothing, dropout (stages 1-2) or DropBlock (stages 3-4).

    Args:
        stage: number of the stage, counted from 1.
        drop_rate: in [0, 1); 0 means no layer.
        block_size: side of the DropBlock squares.
        side: side of the stage's output map.
        squares: see ``Squares``.

    Raises:
        ConfigError: a rate outside [0, 1), or a stage whose map is smaller than one square.
    """
    if not 0 <= drop_rate < 1:
        raise ConfigError(f"drop_rate is {drop_rate}; choose a value in [0, 1).")
    if drop_rate == 0:
        return nn.Identity()
    return nn.Dropout(drop_rate) if stage <= 2 else DropBlock(drop_rate, block_size, side, squares)
