"""DropBlock: squares of a feature map are dropped together, at a rate that ramps up during training.

Ghiasi et al. (2018). The squares are independent per channel, as in the few-shot ResNet-12 family.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

RAMP_BATCHES = 40_000
"""Training batches until the drop rate reaches its nominal value."""


def seed_rate(drop_rate: float, block_size: int, side: int, n_batches: Tensor) -> Tensor:
    """Probability that a position becomes the seed of a dropped square (Ghiasi et al. 2018, eq. 1).

    gamma = (1 - keep) / block_size² · side² / (side - block_size + 1)², where
    keep = max(1 - drop_rate·n_batches / 40,000, 1 - drop_rate).

    Args:
        drop_rate: nominal share of dropped values, in [0, 1).
        block_size: side of the dropped squares, at most ``side``.
        side: height of the feature map.
        n_batches: () int64, training batches seen before this one.

    Returns:
        () float64 in [0, 1).

    >>> float(seed_rate(0.1, 5, 5, torch.tensor(40_000)))
    0.1
    """
    dropped = drop_rate * (n_batches.double() / RAMP_BATCHES).clamp(max=1.0)  # ()
    return dropped * (side**2 / (block_size**2 * (side - block_size + 1) ** 2))


def keep_mask(seeds: Tensor, block_size: int) -> Tensor:
    """Clear one square for every seed; overlapping squares merge.

    Args:
        seeds: (..., h - block_size + 1, w - block_size + 1) bool; a seed is the upper left corner of its square.
        block_size: side of the squares.

    Returns:
        (..., h, w) bool, False where a square lies.
    """
    border = block_size - 1
    padded = functional.pad(seeds.float(), (border, border, border, border))  # (..., h + border, w + border)
    return functional.max_pool2d(padded, block_size, stride=1) == 0  # (..., h, w)


def keep_mask_as_published(seeds: Tensor, block_size: int) -> Tensor:
    """Clear only those cells that the code behind the published few-shot ResNet-12 numbers clears.

    That code lists all K seeds and all block_size² offsets cyclically and side by side instead of crossing
    them, so of the K·block_size² cells only K·block_size² / gcd(K, block_size²) are reached, and then the
    centre of every square. Squares are complete only when K and block_size² have no common divisor.

    Args:
        seeds: (b, C, h - block_size + 1, w - block_size + 1) bool.
        block_size: side of the squares.

    Returns:
        (b, C, h, w) bool, False where a value is dropped.
    """
    before, after = (block_size - 1) // 2, block_size // 2
    keep = ~functional.pad(seeds, (before, after, before, after))  # (b, C, h, w), centres dropped
    image, channel, row, column = seeds.nonzero(as_tuple=True)  # (K,) each
    pair = torch.arange(len(image) * block_size**2, device=seeds.device)  # (K·block_size²,)
    seed, offset = pair % max(len(image), 1), pair % block_size**2
    keep[image[seed], channel[seed], row[seed] + offset // block_size, column[seed] + offset % block_size] = (
        False
    )
    return keep


def drop(x: Tensor, keep: Tensor) -> Tensor:
    """Zero the dropped values and scale the rest by numel / kept, counted over the whole batch.

    Args:
        x: (b, C, h, w) float.
        keep: (b, C, h, w) bool.

    Returns:
        (b, C, h, w), same dtype; all zero where nothing is kept.
    """
    kept = keep.sum().clamp(min=1)
    return x * keep * (keep.numel() / kept).to(x.dtype)
