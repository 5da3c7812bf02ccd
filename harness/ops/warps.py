"""Random affine maps of small drawings, as trainings on them use: turned, scaled, slanted and shifted a little."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_TURN, _SCALE, _SLANT, _SHIFT = math.radians(15), 0.15, 0.2, 0.1  # of strength 1, each way


def draw_warps(n: int, strength: float, rng: torch.Generator) -> Tensor:
    """Draw affine maps, each of its own.

    Args:
        n: how many.
        strength: ≥ 0; of 1 are turns up to 15 degrees, scales of 0.85 to 1.15 in both directions, slants up to 0.2 and
            shifts up to a twentieth of the edge, each way.
        rng: CPU generator.

    Returns:
        (n, 2, 3) float32, from places in the result to places in the picture, both in [-1, 1].
    """
    turn, wide, high, slant, right, down = (strength * (2 * torch.rand(6, n, generator=rng) - 1)).unbind()
    turn, wide, high = turn * _TURN, 1 + _SCALE * wide, 1 + _SCALE * high
    sine, cosine = turn.sin(), turn.cos()
    slant = _SLANT * slant
    rows = [wide * cosine, slant * wide * cosine - high * sine, _SHIFT * right,
            wide * sine, slant * wide * sine + high * cosine, _SHIFT * down]  # fmt: skip
    return torch.stack(rows, 1).unflatten(1, (2, 3))


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Map each image, bilinearly; beyond its edge the edge goes on.

    Args:
        images: (n, c, H, W) float.
        maps: (n, 2, 3) as of ``draw_warps``.

    Returns:
        (n, c, H, W).
    """
    grid = functional.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
