"""Training augmentation of whole batches, on the training device, by the name of the family that trains with it.

All draws come from a CPU generator, so that one seed gives one augmentation on every device; each image draws its
own crop, flip and colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.data.boxes import Boxes, crop_resize, resized_boxes, window_boxes
from harness.data.colour import draw_jitter, jitter
from harness.data.pipelines import Pipeline, pipeline
from harness.data.views import to_float
from harness.errors import ConfigError, nearest


@dataclass(frozen=True)
class Augmentation:
    """What is done to each training image.

    Attributes:
        name: what recipes call it.
        crop: "resized": a part of random area and ratio, resized; "window": a part of the final size out of
            the image with ``padding`` black pixels around; "none": the whole image, resized.
        padding: in pixels, at whatever size.
        jitter: brightness, contrast and saturation are multiplied by a factor in [1 - jitter, 1 + jitter] each, in an
            order drawn for each image.
        flip: whether every second image is mirrored.
    """

    name: str
    crop: Literal["resized", "window", "none"] = "none"
    padding: int = 0
    jitter: float = 0.0
    flip: bool = False


_NONE = Augmentation("none")
_RESIZED = Augmentation("resized-flip", "resized", flip=True)
_RESIZED_JITTER = Augmentation("resized-jitter-flip", "resized", jitter=0.4, flip=True)
_PADDED_8 = Augmentation("padded8-jitter-flip", "window", 8, 0.4, flip=True)
_PADDED_4 = Augmentation("padded4-jitter-flip", "window", 4, 0.4, flip=True)
_WINDOW = Augmentation("window-jitter-flip", "window", 0, 0.4, flip=True)  # of an image stored larger

AUGMENTATIONS: dict[str, Augmentation] = {
    a.name: a for a in (_NONE, _RESIZED, _RESIZED_JITTER, _PADDED_8, _PADDED_4, _WINDOW)
}
TRAINING: dict[str, Augmentation] = {  # what each family trains with, by the name of its pipeline
    "area": _NONE,
    "features": _NONE,
    "snell": _NONE,
    "stored": _NONE,
    "tadam": _NONE,  # not published
    "metaoptnet": _PADDED_8,
    "metaoptnet-cifar": _PADDED_4,
    "rfs-resize": _PADDED_8,  # published for the family's other pipelines
    "rfs-cifar": _PADDED_4,
    "feat": _RESIZED_JITTER,
    "feat-resnet12": _RESIZED_JITTER,
    "feat-tiered": _RESIZED_JITTER,
    "deepemd": _RESIZED,
    "deepemd-cifarfs": _RESIZED,
    "bml": _RESIZED_JITTER,
    "bml-tiered": _PADDED_8,
    "bml-cifarfs": _PADDED_8,
    "closerlook": _RESIZED_JITTER,
    "negative-margin": _RESIZED_JITTER,
    "mmfewshot": _RESIZED_JITTER,
    "libfewshot": _WINDOW,
    "libfewshot-s2m2": _WINDOW,
    "easyfsl": _RESIZED_JITTER,
    "simpleshot": _RESIZED_JITTER,
}


def augmentation(name: str) -> Augmentation:
    """Look an augmentation up by its own name or by that of a pipeline, whose family trains with it.

    Raises:
        ConfigError: when there is none of that name.

    >>> augmentation("deepemd").name
    'resized-flip'
    """
    known = {**TRAINING, **AUGMENTATIONS}
    if name not in known:
        raise ConfigError(
            f"`{name}` is not an augmentation.{nearest(name, known)} Known: {', '.join(AUGMENTATIONS)}."
        )
    return known[name]


def augment(
    images: Tensor,
    view: Pipeline | str,
    size: int,
    rng: torch.Generator,
    how: Augmentation | None = None,
) -> Tensor:
    """Augment a batch.

    Args:
        images: (n, H, W, C) uint8 on any device; larger than ``size`` where crops should keep their sharpness.
        view: the pipeline; says the polarity and, unless ``how`` does, the augmentation.
        size: edge of the result in pixels.
        rng: CPU generator.
        how: the augmentation.

    Returns:
        (n, C, size, size) float32 in [0, 1] on the device of ``images``, not normalised.
    """
    chosen = pipeline(view) if isinstance(view, str) else view
    how = how or augmentation(chosen.name)
    x = to_float(images, chosen)  # (n, C, H, W)
    n, _, height, width = x.shape
    boxes = _draw_boxes(n, height, width, size, how, rng)
    is_flipped = torch.rand(n, generator=rng) < 0.5 if how.flip else torch.zeros(n, dtype=torch.bool)
    x = crop_resize(x, boxes, is_flipped, size)
    return jitter(x, *draw_jitter(n, how.jitter, rng)) if how.jitter else x


def _draw_boxes(n: int, height: int, width: int, size: int, how: Augmentation, rng: torch.Generator) -> Boxes:
    """Draw the crop of each image."""
    if how.crop == "resized":
        return resized_boxes(n, height, width, rng)
    if how.crop == "window":
        return window_boxes(n, height, width, size, how.padding, rng)
    whole = torch.zeros(n, dtype=torch.int64)
    return Boxes(whole, whole, whole + height, whole + width)
