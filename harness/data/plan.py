"""What preparing a data set will do, known before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from harness.data.manifest import SourceFile
from harness.data.originals import Picture
from harness.data.pipelines import Mode

_CARD_BYTES = 150  # a row of images.csv and of the index, and its line in the journal


@dataclass(frozen=True)
class Plan:
    """One data set to be prepared from given sources.

    Attributes:
        dataset: its name.
        population: which photographs they are; parts are joined by ``+``.
        mode: "L" or "RGB".
        sources: the files, with digests where they are known.
        terms: licence or terms of use.
        n_images: pictures to be read.
        n_bytes: their encoded bytes together.
        pipeline: name of the default pipeline.
        size: default edge in pixels.
        pictures: gives the pictures, in any order; called again when a killed run is taken up.
        if_other: what to do where the set exists, prepared from other sources.
    """

    dataset: str
    population: str
    mode: Mode
    sources: tuple[SourceFile, ...]
    terms: str
    n_images: int
    n_bytes: int
    pipeline: str
    size: int
    pictures: Callable[[], Iterator[Picture]]
    if_other: Literal["extend", "replace", "refuse"] = "refuse"

    @property
    def disk_bytes(self) -> int:
        """Disk space the prepared set will take: originals, cards and the default map."""
        pixel_bytes = self.n_images * self.size**2 * (1 if self.mode == "L" else 3)
        return self.n_bytes + self.n_images * _CARD_BYTES + pixel_bytes
