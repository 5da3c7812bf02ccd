"""Several crops of each original picture: DeepEMD's grids and its seeded random crops, fixed or drawn for training."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from harness.errors import DataError
from harness.images.crops import resized_boxes
from harness.images.pipelines import Geometry, Pixels, decode
from harness.images.stores import ImageStore, Rows
from harness.seeding import torch_generator
from harness.system.process import n_cpus

PLAIN = Geometry("plain", "squash")  # the whole patch, resized bilinearly
_TURNED = {  # quarters counter-clockwise
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class View(Protocol):
    """Which pictures an image is: a frozen dataclass, whose text is part of the key of a feature table.

    It is made of crops of the original picture (``Cuts``) or of the square that is stored (``OfSquares``).
    """

    @property
    def n_crops(self) -> int:
        """Crops of one picture."""


@runtime_checkable
class OfSquares(View, Protocol):
    """Views made of stored squares."""

    def images(
        self, store: ImageStore, rows: Rows, pipeline: str, device: torch.device, training_pass: int | None
    ) -> torch.Tensor:
        """Views of (n,) rows: (n, v, c, H, W) float32 in [0, 1]."""


@runtime_checkable
class Cuts(View, Protocol):
    """Views cut from original pictures."""

    def crops(
        self, image: Image.Image, size: int, rng: torch.Generator, is_training: bool
    ) -> Iterator[Pixels]:
        """The crops of one picture, (size, size, C) uint8 each."""


@dataclass(frozen=True)
class Grid:
    """The cells of one or more grids over a picture, each enlarged about its centre.

    Attributes:
        levels: cells a side of each grid; the crops are in their order, rows before columns.
        ratio: edge of a crop over that of its cell; drawn from [1, 3] for each grid in training.
        patch: how a crop is brought to its size.
    """

    levels: tuple[int, ...] = (2, 3)
    ratio: float = 2.0
    patch: Geometry = PLAIN

    @property
    def n_crops(self) -> int:
        """Crops of one picture."""
        return sum(k * k for k in self.levels)

    def crops(
        self, image: Image.Image, size: int, rng: torch.Generator, is_training: bool
    ) -> Iterator[Pixels]:
        """The crops of one picture; mirrored at random in training."""
        for k in self.levels:
            ratio = 1 + 2 * float(torch.rand((), generator=rng)) if is_training else self.ratio
            for box in grid_boxes(image.width, image.height, k, ratio):
                pixels = self.patch(image.crop(box), size)
                yield _mirrored(pixels, rng) if is_training else pixels


@dataclass(frozen=True)
class RandomCrops:
    """Crops of random area and ratio, mirrored at random; in evaluation drawn once for each picture.

    Attributes:
        n_crops: crops of one picture.
    """

    n_crops: int = 9

    def crops(
        self, image: Image.Image, size: int, rng: torch.Generator, is_training: bool
    ) -> Iterator[Pixels]:
        """The crops of one picture."""
        height, width = torch.tensor([image.size[::-1]]).expand(self.n_crops, 2).unbind(1)
        boxes = torch.stack(resized_boxes(height, width, rng), 1)
        for top, left, h, w in boxes.tolist():
            pixels = PLAIN(image.crop((left, top, left + w, top + h)), size)
            yield _mirrored(pixels, rng)


class Crops:
    """Crops of the pictures of a store, read from the originals; a context manager.

    Images made in memory are their own originals; pictures of rotated classes are turned before they are cut.

    Args:
        store: its set has to keep the original pictures.
        view: which crops.
        size: edge of a crop in pixels.
        seed: of what is drawn; a picture's crops depend on it, the picture and the training pass alone.

    Raises:
        DataError: when the set was prepared without the original pictures.
    """

    def __init__(self, store: ImageStore, view: Cuts, size: int, seed: int = 0) -> None:
        self._store, self._view, self._size, self._seed = store, view, size, seed
        self._originals = store.prepared.originals() if store.prepared else None
        self._pool = ThreadPoolExecutor(n_cpus())

    def __enter__(self) -> Crops:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        if self._originals:
            self._originals.__exit__(*error)

    def images(self, rows: Rows, training_pass: int | None = None) -> Pixels:
        """Gather crops.

        Args:
            rows: (n,) rows of the store in any order; may repeat.
            training_pass: which drawing for training; None for the fixed crops of evaluation.

        Returns:
            (n, n_crops, size, size, C) uint8, in colours as in the file.

        Raises:
            DataError: when a picture is broken.
        """
        index = np.asarray(rows, dtype=np.int64)
        quarters = self._store.label[index] % 4 if self._store.is_rotated else np.zeros_like(index)
        asked = self._store.source[index].tolist(), quarters.tolist(), [training_pass] * len(index)
        return np.stack(list(self._pool.map(self._of, *asked)))

    def _of(self, row: int, quarter: int, training_pass: int | None) -> Pixels:
        is_training = training_pass is not None
        names = (
            "crops",
            row,
            *([training_pass] if is_training else []),
            *([f"turned {quarter}"] if quarter else []),
        )
        rng = torch_generator(self._seed, *names)
        try:
            image = self._picture(row)
            image = image.transpose(_TURNED[quarter]) if quarter else image
            return np.stack(list(self._view.crops(image, self._size, rng, is_training)))
        except DataError as error:
            raise DataError(f"The picture in row {row} of {self._store.name} {error}.") from error

    def _picture(self, row: int) -> Image.Image:
        if self._originals is None or self._store.prepared is None:
            return Image.fromarray(self._store.pixels[row].squeeze())
        card = self._store.prepared.manifest
        return decode(self._originals.read(row), card.mode, card.is_upright)


def grid_boxes(width: int, height: int, k: int, ratio: float) -> Iterator[Box]:
    """The boxes of a k by k grid, rows before columns.

    Raises:
        DataError: when the picture is too small for so many cells.

    >>> list(grid_boxes(8, 4, 2, 1.0))
    [(0, 0, 4, 2), (4, 0, 8, 2), (0, 2, 4, 4), (4, 2, 8, 4)]
    """
    for row in range(k):
        top, bottom = grid_interval(height, k, ratio, row)
        for column in range(k):
            left, right = grid_interval(width, k, ratio, column)
            if right <= left or bottom <= top:
                raise DataError(f"is {width}×{height} pixels, too small for a grid of {k}×{k}")
            yield left, top, right, bottom


def grid_interval(side: int, k: int, ratio: float, index: int) -> tuple[int, int]:
    """Pixels [start, end) of cell ``index`` of ``k`` along a side, enlarged by ``ratio`` and cut at the border."""
    cell, enlarged = side // k, int(side / k * ratio)
    centre = cell // 2 + index * cell
    return max(0, centre - enlarged // 2), min(side, centre + enlarged // 2)


def _mirrored(pixels: Pixels, rng: torch.Generator) -> Pixels:
    """Mirror (size, size, C) every second time."""
    return pixels[:, ::-1] if float(torch.rand((), generator=rng)) < 0.5 else pixels
