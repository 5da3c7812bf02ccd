"""Training augmentation of whole batches, on the training device.

All draws come from a CPU generator, so that one seed gives one augmentation on every device; each image draws its
own crop, flip and colours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.images.augmentations import Augmentation, augmentation
from harness.images.colour import draw_jitter, jitter, jitter_levels
from harness.images.crops import Boxes, crop_resize, resized_boxes, scaled, window_boxes
from harness.images.full import FullPictures
from harness.images.inputs import to_float
from harness.images.pipelines import Pipeline, pipeline


def augment(
    images: Tensor,
    view: Pipeline | str,
    size: int,
    rng: torch.Generator,
    how: Augmentation | None = None,
    extents: Tensor | None = None,
) -> Tensor:
    """Augment a batch.

    Args:
        images: (n, H, W, C) uint8 on any device; larger than ``size`` where crops should keep their sharpness.
        view: the pipeline; says the polarity and, unless ``how`` does, the augmentation.
        size: edge of the result in pixels.
        rng: CPU generator.
        how: the augmentation.
        extents: (n, 2) int64, on the CPU: height and width of the pictures that the images are squashed from, by
            default their own. "resized" crops have their area and ratio there.

    Returns:
        (n, C, size, size) float32 in [0, 1] on the device of ``images``, not normalised.
    """
    chosen = pipeline(view) if isinstance(view, str) else view
    how = how or augmentation(chosen.name)
    x = to_float(images, chosen)  # (n, C, H, W)
    n, _, height, width = x.shape
    extents = torch.tensor([[height, width]]).expand(n, 2) if extents is None else extents
    boxes = _draw_boxes(extents, height, width, size, how, rng)
    x = crop_resize(x, boxes, _draw_flips(n, how, rng), size)
    return _coloured(x, how, rng)


def augment_full(
    pictures: FullPictures,
    rows: Tensor,
    view: Pipeline | str,
    size: int,
    rng: torch.Generator,
    how: Augmentation,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Augment a batch by crops of pictures at their own size, cut and resized as torchvision does it.

    Args:
        pictures: where they are.
        rows: (n,) int64 rows of them.
        view: the pipeline; says the polarity.
        size: edge of the result in pixels.
        rng: CPU generator.
        how: an augmentation whose crops are "resized".
        device: of the result.

    Returns:
        (n, C, size, size) float32 in [0, 1], not normalised.
    """
    extents = torch.from_numpy(pictures.extents[rows.numpy()])  # (n, 2)
    boxes = resized_boxes(extents[:, 0], extents[:, 1], rng)
    is_flipped = _draw_flips(len(rows), how, rng).to(device)
    pixels = torch.from_numpy(pictures.crops(rows.tolist(), boxes, size)).to(device)
    x = to_float(pixels, view)  # (n, C, size, size)
    x = torch.where(is_flipped[:, None, None, None], x.flip(3), x)
    return _coloured(x, how, rng)


def _draw_flips(n: int, how: Augmentation, rng: torch.Generator) -> Tensor:
    """Which images are mirrored, (n,) bool."""
    return torch.rand(n, generator=rng) < 0.5 if how.flip else torch.zeros(n, dtype=torch.bool)


def _coloured(x: Tensor, how: Augmentation, rng: torch.Generator) -> Tensor:
    """Jittered colours of (n, C, H, W), in whole levels where the augmentation has them."""
    if how.is_8bit:
        levels = (255 * x).round()
        return (jitter_levels(levels, *draw_jitter(len(x), how.jitter, rng)) if how.jitter else levels) / 255
    return jitter(x, *draw_jitter(len(x), how.jitter, rng)) if how.jitter else x


def _draw_boxes(
    extents: Tensor, height: int, width: int, size: int, how: Augmentation, rng: torch.Generator
) -> Boxes:
    """Draw the crop of each image."""
    n = len(extents)
    if how.crop == "resized":
        return scaled(resized_boxes(extents[:, 0], extents[:, 1], rng), extents, height, width)
    if how.crop == "window":
        return window_boxes(n, height, width, size, how.padding, rng)
    whole = torch.zeros(n, dtype=torch.int64)
    return Boxes(whole, whole, whole + height, whole + width)
