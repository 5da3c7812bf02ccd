"""Images turned by quarters, and the loss of telling by how many (Gidaris et al. 2018, arXiv:1803.07728)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Turned(NamedTuple):
    """Turned images and what was done to them.

    Attributes:
        images: (n, c, H, H).
        quarters: (n,) int64 counter-clockwise quarters, in [0, 4): the label to be told.
        source: (n,) int64 place of each in the batch that was turned.
    """

    images: Tensor
    quarters: Tensor
    source: Tensor


def every_turn(images: Tensor) -> Turned:
    """Square images (b, c, H, H) in all four orientations: (4·b, ...), those of one orientation together."""
    n = len(images)
    quarters = torch.arange(4, device=images.device).repeat_interleave(n)
    source = torch.arange(n, device=images.device).repeat(4)
    return Turned(torch.cat([images.rot90(k, (2, 3)) for k in range(4)]), quarters, source)


def quarterly(images: Tensor) -> Turned:
    """Turn the first quarter of a batch not at all, the second once, the third twice, the last three times (EASY)."""
    n = len(images)
    quarters = torch.arange(n, device=images.device) * 4 // max(n, 1)  # (n,) ascending
    parts = [images[quarters == k].rot90(k, (2, 3)) for k in range(4)]
    return Turned(torch.cat(parts), quarters, torch.arange(n, device=images.device))
