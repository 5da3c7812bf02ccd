"""CIFAR-100 as PNG files in folders by class: Bertinetto's zip of CIFAR-FS, and DeepEMD's folders of either split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from harness.errors import DataError
from harness.images.pipelines import Pixels, decode
from harness.images.sources import splits
from harness.images.sources.archives import Member, members

SIDE = 32
_KINDS = (".png", ".ppm", ".bmp")  # without loss: a JPEG of these would be other pixels


def by_class(sources: Sequence[Path]) -> Iterator[tuple[str, Pixels]]:
    """The pictures of each class that is there, in the order of their file names.

    Args:
        sources: folders or archives with pictures in folders called as CIFAR-100's classes, at any depth
            (``cifar100/data/<class>/``, ``FC100/train/<class>/``, ``cifar_fs/meta-train/<class>/``).

    Yields:
        class name and (n, 32, 32, 3) uint8 pictures, classes in CIFAR-100's order.

    Raises:
        DataError: when an archive or picture is broken, or a picture has another size.
    """
    classes = splits.read("cifar100")["all"]
    found: dict[str, dict[str, Pixels]] = defaultdict(dict)
    for source in sources:
        for member in members(source):
            path = PurePosixPath(member.path)
            if path.suffix.lower() in _KINDS and path.parent.name in classes:
                found[path.parent.name][member.path] = _pixels(member)
    for name in classes:
        if name in found:
            yield name, np.stack([pixels for _, pixels in sorted(found[name].items())])


def _pixels(member: Member) -> Pixels:
    try:
        pixels = np.asarray(decode(member.read(), "RGB"))
    except DataError as error:
        raise DataError(f"{member.path} {error}.") from error
    if pixels.shape != (SIDE, SIDE, 3):
        raise DataError(
            f"{member.path} has {pixels.shape[1]}×{pixels.shape[0]} pixels; pictures of CIFAR-100 have {SIDE}×{SIDE}."
        )
    return pixels
