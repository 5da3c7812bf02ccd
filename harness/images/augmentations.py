"""Training augmentations by name, and which one the family of each pipeline trains with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from harness.errors import ConfigError, nearest

CropsFrom = Literal["stored", "map", "originals"]
ORIGINALS = -1  # in place of the edge of a map: training crops are cut from pictures at their own size


def crops_told(cut_from: int) -> str:
    """What random training crops are cut from, in words.

    >>> crops_told(0), crops_told(168), crops_told(ORIGINALS)
    ('stored squares', 'pictures of 168 pixels', 'originals')
    """
    if cut_from == ORIGINALS:
        return "originals"
    return f"pictures of {cut_from} pixels" if cut_from else "stored squares"


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
        is_8bit: whether images have whole grey levels throughout, as where Pillow changes them: crops are rounded and the
            jitter cut off after each of its steps (about 1.3 levels darker than in floats, on average).
    """

    name: str
    crop: Literal["resized", "window", "none"] = "none"
    padding: int = 0
    jitter: float = 0.0
    flip: bool = False
    is_8bit: bool = False


PLAIN = Augmentation("none")
_RESIZED = Augmentation("resized-flip", "resized", flip=True)
_RESIZED_JITTER = Augmentation("resized-jitter-flip", "resized", jitter=0.4, flip=True)
_RESIZED_8BIT = replace(_RESIZED, name="resized-flip-8bit", is_8bit=True)
_RESIZED_JITTER_8BIT = replace(_RESIZED_JITTER, name="resized-jitter-flip-8bit", is_8bit=True)
_PADDED_8 = Augmentation("padded8-jitter-flip", "window", 8, 0.4, flip=True)
_PADDED_8_8BIT = replace(_PADDED_8, name="padded8-jitter-flip-8bit", is_8bit=True)
_PADDED_4 = Augmentation("padded4-jitter-flip", "window", 4, 0.4, flip=True)
_WINDOW = Augmentation("window-jitter-flip", "window", 0, 0.4, flip=True)  # of an image stored larger

AUGMENTATIONS: dict[str, Augmentation] = {
    a.name: a
    for a in (
        PLAIN, _RESIZED, _RESIZED_8BIT, _RESIZED_JITTER, _RESIZED_JITTER_8BIT, _PADDED_8, _PADDED_8_8BIT, _PADDED_4, _WINDOW
    )
}  # fmt: skip
TRAINING: dict[str, Augmentation] = {  # what each family trains with, by the name of its pipeline
    "area": PLAIN,
    "features": PLAIN,
    "snell": PLAIN,
    "stored": PLAIN,
    "tadam": PLAIN,  # not published
    "metaoptnet": _PADDED_8,
    "metaoptnet-cifar": _PADDED_4,
    "rfs-resize": _PADDED_8,  # published for the family's other pipelines
    "rfs-cifar": _PADDED_4,
    "feat": _RESIZED_JITTER,
    "feat-resnet12": _RESIZED_JITTER,
    "feat-tiered": _RESIZED_JITTER,
    "deepemd": _RESIZED,
    "deepemd-tiered": _RESIZED,
    "deepemd-cifarfs": _RESIZED,
    "bml": _RESIZED_JITTER,
    "bml-mini": _RESIZED_JITTER,
    "bml-tiered": _PADDED_8,
    "bml-cifarfs": _PADDED_8,
    "closerlook": _RESIZED_JITTER,
    "negative-margin": _RESIZED_JITTER,
    "fine-grained": _RESIZED,
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
    if name.startswith("network-"):  # a network's own input: nothing is known of how it was trained
        return PLAIN
    if name not in known:
        raise ConfigError(
            f"`{name}` is not an augmentation.{nearest(name, known)} Known: {', '.join(AUGMENTATIONS)}."
        )
    return known[name]


def is_cropped(name: str) -> bool:
    """Whether training pictures are cut from larger ones, not from padded squares of the final size.

    Args:
        name: of an augmentation, or of the pipeline that it goes with.

    >>> is_cropped("feat"), is_cropped("metaoptnet"), is_cropped("resized-flip")
    (True, False, True)
    """
    how = {**TRAINING, **AUGMENTATIONS}.get(name, PLAIN)
    return how.crop == "resized" or (how.crop == "window" and how.padding == 0)
