"""Data sets that need no source: the embedded glyphs, and scikit-learn's scanned digits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.images.datasets import reader
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import Pixels, encode_png
from harness.images.plan import Plan
from harness.images.sources import glyphs

SIDE = 28


def fetch(dataset: str, folder: Path, progress: object = None) -> list[Path]:
    """Nothing needs to be fetched."""
    return []


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan a generated data set; it has no sources."""
    return [plan(dataset)]


def plan(dataset: str) -> Plan:
    """Plan a generated data set."""
    names, groups, pixels = _glyphs() if dataset == "glyphs" else _digits()

    def pictures() -> Iterator[Picture]:
        for name, group, images in zip(names, groups, pixels, strict=True):
            for i, image in enumerate(images):
                yield Picture(name, f"{i:03d}.png", lambda image=image: encode_png(image), group, order=i)  # type: ignore[misc]

    return Plan(
        dataset=dataset,
        population="generated",
        mode="L",
        sources=(source(dataset),),
        terms=reader(dataset).terms,
        n_images=sum(map(len, pixels)),
        n_bytes=sum(images.nbytes for images in pixels),
        pipeline="stored",
        size=SIDE,
        pictures=pictures,
        if_other="replace",
    )


def upsample_digits(images: Pixels) -> Pixels:
    """Enlarge 8x8 scans to 28x28: threefold, linear between pixel centres, with a margin of 2; integers only.

    Args:
        images: (n, 8, 8) uint8 in [0, 16], ink = 16.

    Returns:
        (n, 28, 28) uint8, ink = 255.
    """
    weights = np.zeros((24, 8), dtype=np.int64)  # in thirds
    for i in range(24):
        centre, phase = divmod(i, 3)
        weights[i, centre] += 3 if phase == 1 else 2
        if phase != 1:
            weights[i, min(max(centre + phase - 1, 0), 7)] += 1
    sums = np.einsum(
        "hy,nyx,wx->nhw", weights, images.astype(np.int64), weights, optimize=True
    )  # (n, 24, 24)
    scaled = (2 * 255 * sums + 9 * 16) // (2 * 9 * 16)
    return np.pad(scaled.astype(np.uint8), ((0, 0), (2, 2), (2, 2)))


def _glyphs() -> tuple[tuple[str, ...], tuple[str, ...], list[Pixels]]:
    drawn = glyphs.draw()
    return drawn.class_names, drawn.groups, list(drawn.pixels)


def _digits() -> tuple[tuple[str, ...], tuple[str, ...], list[Pixels]]:
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    enlarged = upsample_digits(images.reshape(-1, 8, 8).astype(np.uint8))
    names = tuple(f"digit{c}" for c in range(10))
    return names, ("digits",) * 10, [enlarged[target == c] for c in range(10)]


def source(dataset: str) -> SourceFile:
    """The generator stands for the source: a change of it makes the set anew."""
    module = Path(glyphs.__file__ if dataset == "glyphs" else __file__)
    content = module.read_bytes()
    return SourceFile(module.name, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
