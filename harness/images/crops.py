"""Crops of a batch: drawn on the CPU, then cut, resized and mirrored.

Each line of a crop is a weighted sum of a few lines of the image, by the triangle filter of antialiased bilinear
interpolation, first along one axis, then along the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from harness.errors import ConfigError

SCALE = (0.08, 1.0)  # area of a random resized crop, as a part of the image
RATIO = (3 / 4, 4 / 3)  # its width over its height
_TRIES = 10


class Boxes(NamedTuple):
    """Crops in pixels of the image, (n,) int64 each; they may reach beyond it, where it is black."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def resized_boxes(height: Tensor, width: Tensor, rng: torch.Generator) -> Boxes:
    """Crops of uniform area and log-uniform ratio; the first of ten that fits, else the largest central one.

    Args:
        height, width: (n,) int64 edges of each picture in pixels.
        rng: CPU generator.
    """
    n, area = len(height), (height * width)[:, None]
    area = torch.empty(n, _TRIES, dtype=torch.float64).uniform_(*SCALE, generator=rng) * area
    ratio = torch.empty(n, _TRIES, dtype=torch.float64)
    ratio.uniform_(math.log(RATIO[0]), math.log(RATIO[1]), generator=rng).exp_()
    place = torch.rand(n, 2, dtype=torch.float64, generator=rng)
    w = (area * ratio).sqrt().round().long()  # (n, tries)
    h = (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
    first = fits.int().argmax(1, keepdim=True)
    w, h, found = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0], fits.any(1)  # (n,)
    top = (place[:, 0] * (height - h + 1)).long()
    left = (place[:, 1] * (width - w + 1)).long()
    central_h, central_w = _central(height, width)
    return Boxes(
        torch.where(found, top, (height - central_h) // 2),
        torch.where(found, left, (width - central_w) // 2),
        torch.where(found, h, central_h),
        torch.where(found, w, central_w),
    )


def scaled(boxes: Boxes, extents: Tensor, height: int, width: int) -> Boxes:
    """The crops of pictures in those pictures squashed to (height, width), to the nearest pixel, at least one each.

    Args:
        boxes: crops in pixels of the pictures.
        extents: (n, 2) int64 height and width of each picture in pixels.
        height, width: of the squashed images in pixels.
    """
    top, bottom = _stretch(boxes.top, boxes.height, extents[:, 0], height)
    left, right = _stretch(boxes.left, boxes.width, extents[:, 1], width)
    return Boxes(top, left, bottom - top, right - left)


def _stretch(start: Tensor, length: Tensor, edge: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Start and end of stretches of an edge, where the edge becomes n pixels; in whole numbers, halves up."""
    first, last = ((2 * place * n + edge) // (2 * edge) for place in (start, start + length))
    first = first.clamp(max=n - 1)
    return first, torch.maximum(last, first + 1)


def window_boxes(n: int, height: int, width: int, size: int, padding: int, rng: torch.Generator) -> Boxes:
    """Windows of the final size, uniform over the padded image.

    Raises:
        ConfigError: when the image with its padding is smaller than the window.
    """
    room = [edge + 2 * padding - size for edge in (height, width)]
    if min(room) < 0:
        raise ConfigError(
            f"A window of {size} pixels does not fit an image of {height}×{width} with {padding} around it."
        )
    top, left = (torch.randint(r + 1, (n,), generator=rng) - padding for r in room)
    edge = torch.full((n,), size)
    return Boxes(top, left, edge, edge)


def crop_resize(x: Tensor, boxes: Boxes, is_flipped: Tensor, size: int) -> Tensor:
    """Crop, resize bilinearly with antialiasing, and mirror; black outside the image.

    Args:
        x: (n, C, H, W) float32.
        boxes: a crop for each image; those that reach beyond it must have the final size.
        is_flipped: (n,) bool, on the CPU.
        size: edge of the result in pixels.

    Returns:
        (n, C, size, size) float32.
    """
    n, channels, height, width = x.shape
    rows, columns = _taps(boxes.top, boxes.height, height, size), _taps(boxes.left, boxes.width, width, size)
    flip = is_flipped[:, None, None]
    columns = _Taps(*(torch.where(flip, of_column.flip(1), of_column) for of_column in columns))
    lines = x.permute(0, 2, 3, 1).reshape(n, height, width * channels)  # a view of images as they are stored
    low = _mixed(lines, rows).unflatten(2, (width, channels))  # (n, size, W, C)
    upright = low.transpose(1, 2).reshape(n, width, size * channels)
    small = _mixed(upright, columns).unflatten(2, (size, channels))  # (n, size of columns, size of rows, C)
    return small.permute(0, 3, 2, 1).contiguous()  # (n, C, size, size)


def _central(height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of the largest central crop whose ratio is allowed."""
    ratio = width / height
    highest, widest = (width / RATIO[0]).round().long(), (height * RATIO[1]).round().long()
    return torch.where(ratio < RATIO[0], highest, height), torch.where(ratio > RATIO[1], widest, width)


class _Taps(NamedTuple):
    """Source pixels of each pixel of a resized stretch, (n, size, taps) int64, and the weight of each, float32."""

    source: Tensor
    weight: Tensor


def _taps(start: Tensor, length: Tensor, n_source: int, size: int) -> _Taps:
    """The triangle filter of stretches of n_source pixels, cut at their ends; weights sum to 1 inside the image."""
    scale = (length / size)[:, None, None]
    radius = scale.clamp(min=1)
    centre = start[:, None, None] + scale * (torch.arange(size)[:, None] + 0.5)  # (n, size, 1)
    n_taps = int((2 * radius.max()).ceil()) + 1
    source = (centre - radius).floor().long() + torch.arange(n_taps)  # (n, size, taps)
    weight = (1 - (source + 0.5 - centre).abs() / radius).clamp(min=0)
    weight = weight * ((source >= start[:, None, None]) & (source < (start + length)[:, None, None]))
    weight = weight / weight.sum(2, keepdim=True)
    is_black = (source < 0) | (source >= n_source)
    return _Taps(source.clamp(0, n_source - 1), weight.masked_fill(is_black, 0))


def _mixed(lines: Tensor, taps: _Taps) -> Tensor:
    """Weighted sums of a few lines of each image: (n, lines, D) → (n, size, D)."""
    n, n_lines, _ = lines.shape
    source = taps.source + torch.arange(n)[:, None, None] * n_lines  # among the lines of all images
    sums = embedding_bag(
        source.flatten(0, 1).to(lines.device),
        lines.flatten(0, 1),
        per_sample_weights=taps.weight.flatten(0, 1).to(lines),
        mode="sum",
    )
    return sums.unflatten(0, (n, -1))
