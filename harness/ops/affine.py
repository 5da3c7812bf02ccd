"""Small random affine maps of whole batches of images, on their device."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Jitter(NamedTuple):
    """How far an image may be moved; each part is drawn evenly, for each image by itself.

    Attributes:
        degrees: of turning, either way, ≥ 0.
        scale: each axis is stretched by a factor in [1 / (1 + scale), 1 + scale], evenly in its logarithm, ≥ 0.
        shear: either way, ≥ 0.
        shift: either way, as a share of the edge, ≥ 0.
    """

    degrees: float = 10.0
    scale: float = 0.2
    shear: float = 0.3
    shift: float = 0.07


def scaled_jitter(how: Jitter, strength: float) -> Jitter:
    """Multiply every reach by ``strength``, ≥ 0.

    >>> scaled_jitter(Jitter(10, 0.2, 0.3, 0.1), 2.0)
    Jitter(degrees=20.0, scale=0.4, shear=0.6, shift=0.2)
    """
    return Jitter(*(reach * strength for reach in how))


def draw_affine(n: int, how: Jitter, rng: torch.Generator) -> Tensor:
    """Draw n maps.

    Args:
        n: how many.
        how: their reach.
        rng: CPU generator.

    Returns:
        (n, 2, 3) float32 on the CPU, from the coordinates of the result to those of the image, both in [−1, 1].
    """
    turn, stretch_x, stretch_y, shear, shift_x, shift_y = (2 * torch.rand(6, n, generator=rng) - 1).unbind()
    angle = turn * math.radians(how.degrees)
    cos, sin = angle.cos(), angle.sin()
    width, height = ((stretch * math.log1p(how.scale)).exp() for stretch in (stretch_x, stretch_y))
    slant = shear * how.shear
    rows = [
        torch.stack([cos * width, (cos * slant - sin) * height, 2 * how.shift * shift_x], dim=1),
        torch.stack([sin * width, (sin * slant + cos) * height, 2 * how.shift * shift_y], dim=1),
    ]
    return torch.stack(rows, dim=1)  # (n, 2, 3)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Sample images through affine maps, bilinearly; 0 outside.

    Args:
        images: (n, c, H, W) float on any device.
        maps: (n, 2, 3) float, of ``draw_affine``.

    Returns:
        (n, c, H, W), laid out with the channels innermost.
    """
    grid = functional.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)
