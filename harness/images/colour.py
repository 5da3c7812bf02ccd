"""Colour jitter of a batch: each image has its own factors, applied in its own order."""

from __future__ import annotations

import torch
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)  # of grey, as torchvision takes it
_LUMA_16 = (19595.0, 38470.0, 7471.0)  # as Pillow does, in 1/65536


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
    for kind, factor in _steps(x, factors, order):
        grey = _grey(x)
        mean = grey.mean((2, 3), keepdim=True)
        x = factor * x
        x.addcmul_((1 - factor) * (kind == 2), grey)
        x.add_((1 - factor) * (kind == 1) * mean).clamp_(0, 1)
    return x


def jitter_levels(levels: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """The same in whole grey levels, cut off after each step: Pillow's ImageEnhance, bit by bit.

    Args:
        levels: (n, 3, H, W) float32, whole numbers in [0, 255].
        factors, order: as in ``jitter``.

    Returns:
        (n, 3, H, W) float32, whole numbers in [0, 255].
    """
    for kind, factor in _steps(levels, factors, order):
        grey = _grey_level(levels)
        mean = grey.mean((2, 3), keepdim=True, dtype=torch.float64).add(0.5).floor().to(grey)
        towards = grey * (kind == 2) + mean * (kind == 1)  # (n, 1, H, W); brightness goes towards black
        levels = (towards + factor * (levels - towards)).clamp_(0, 255).floor_()
    return levels


def _steps(x: Tensor, factors: Tensor, order: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What each image does first, second and third, and its factor: (n, 1, 1, 1) each."""
    steps = order.to(x.device).unbind(1)  # (n,) each
    return [
        (step[:, None, None, None], factors.to(x.device).gather(1, step[:, None])[:, :, None, None])
        for step in steps
    ]


def _grey(x: Tensor) -> Tensor:
    """(n, 3, H, W) → (n, 1, H, W), weighted as the eye does."""
    red, green, blue = x.split(1, dim=1)
    return (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _grey_level(levels: Tensor) -> Tensor:
    """(n, 3, H, W) → (n, 1, H, W) whole levels, halves up; every sum is a whole number below 2^24."""
    red, green, blue = levels.split(1, dim=1)
    sums = (_LUMA_16[0] * red).add_(green, alpha=_LUMA_16[1]).add_(blue, alpha=_LUMA_16[2])
    return sums.add_(32768.0).div_(65536.0).floor_()
