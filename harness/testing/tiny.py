"""A small set of drawn characters, in memory: what a method is fitted on and asked about in its contract."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from harness.benchmarks import RoleName
from harness.images.pipelines import pipeline
from harness.images.sources import glyphs
from harness.images.stores import ImageStore, store_of_arrays

# Whole alphabets of the glyphs benchmark, all from its base classes: nobody tunes on its novel ones here.
CLASSES = {"base": slice(0, 16), "validation": slice(16, 24), "novel": slice(24, 40)}
N_IMAGES = 20  # of each class
PIPELINE = "stored"


@cache
def tiny_store(role: RoleName, size: int = glyphs.SIDE) -> ImageStore:
    """Make the small set of one role: 16 base, 8 validation or 16 novel characters, 20 drawings of each.

    Args:
        role: "base", "validation" or "novel".
        size: edge in pixels.

    Returns:
        A store in memory; its pipeline is "stored", with one channel.
    """
    drawn, classes = _drawings(), CLASSES[role]
    pixels = drawn.pixels[classes, :N_IMAGES]  # (C, n, 28, 28)
    geometry = pipeline(PIPELINE).geometry
    resized = np.stack([geometry(Image.fromarray(p), size) for p in pixels.reshape(-1, *pixels.shape[2:])])
    resized = resized.reshape(*pixels.shape[:2], size, size, 1)
    names, groups = drawn.class_names[classes], drawn.groups[classes]
    return store_of_arrays(f"tiny {role}", resized, names, groups, PIPELINE)


@cache
def _drawings() -> glyphs.GlyphSet:
    return glyphs.draw()
