"""Colour jitter of a batch: each image has its own factors, applied in its own order."""

from __future__ import annotations

import torch
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # of grey, as Pillow and torchvision take it


def draw_jitter(n: int, strength: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw colour factors, (n, 3) of brightness, contrast and saturation, and their orders, (n, 3) int64."""
    factors = torch.empty(n, 3).uniform_(1 - strength, 1 + strength, generator=rng)
    return factors, torch.rand(n, 3, generator=rng).argsort(1)


def jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of each image, in its own order.

    Args:
        x: (n, 3, H, W) float32 in [0, 1].
        factors: (n, 3) of brightness (towards black), contrast (towards the mean grey), saturation (towards grey).
        order: (n, 3) int64: which of the three comes first, second, third.

    Returns:
        (n, 3, H, W) float32 in [0, 1], clipped after each step.
    """
    for step in order.to(x.device).unbind(1):  # (n,)
        kind = step[:, None, None, None]
        factor = factors.to(x.device).gather(1, step[:, None])[:, :, None, None]
        grey = _grey(x)
        mean = grey.mean((2, 3), keepdim=True)
        x = factor * x
        x.addcmul_((1 - factor) * (kind == 2), grey)
        x.add_((1 - factor) * (kind == 1) * mean).clamp_(0, 1)
    return x


def _grey(x: Tensor) -> Tensor:
    """(n, 3, H, W) → (n, 1, H, W), weighted as the eye does."""
    red, green, blue = x.split(1, dim=1)
    return (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
