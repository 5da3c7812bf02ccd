"""The published draws of ImageNet low-shot: which training images of a novel class each experiment takes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Published:
    """Published draws.

    Attributes:
        draws: file with five lists of positions within a class for each class size.
        sizes: training images by class, in the published order of labels.
    """

    draws: Path
    sizes: Mapping[str, int]

    @property
    def most_shots(self) -> int:
        """Length of the lists."""
        return len(next(iter(_by_size(self.draws).values()))[0])

    def positions(self, name: str) -> IntArray:
        """(E, 20) int64: the positions drawn of one class, among all its training images in the order of file names."""
        return np.array(_by_size(self.draws)[self.sizes[name]], dtype=np.int64)

    def kept(self, name: str) -> IntArray:
        """Positions that any experiment draws, ascending: the training images of a novel class that are prepared."""
        return np.unique(self.positions(name))

    def rows(self, name: str) -> IntArray:
        """(E, 20) int64: the same draws as positions among the prepared images of a novel class."""
        return np.searchsorted(self.kept(name), self.positions(name))


@cache
def _by_size(path: Path) -> Mapping[int, list[list[int]]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return {int(size): lists for size, lists in json.load(stream).items()}
