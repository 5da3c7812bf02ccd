"""What preparing a data set will do, known before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.images.account import Account
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import Mode
from harness.images.sources.archives import md5

_LOG = logging.getLogger("fsbench.data")
_HASHED_BYTES = 4 << 30  # larger files are known by name and size: reading 138 GB twice takes too long
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
        has_originals: whether the pictures are originals, to be kept; False where the source holds small
            pictures already made for the default pipeline.
        note: what was found out about the source, for the manifest.
        build: writes the whole set into a folder, telling how many rows it wrote, where there are no pictures.
        is_upright: whether pictures are turned as their EXIF orientation says.
        keeps_going: whether pictures that are broken are left out; else nothing is prepared.
        remedy: what to type where pictures are broken, as a sentence.
        account: what was found beside the pictures; counted while they are read where it is not known before.
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
    has_originals: bool = True
    note: str = ""
    build: Callable[[Path, Callable[[int], None]], None] | None = None
    is_upright: bool = False
    keeps_going: bool = False
    remedy: str = ""
    account: Account | None = None

    @property
    def disk_bytes(self) -> int:
        """Disk space that preparing takes: the pictures, cards and the default map."""
        pixel_bytes = self.n_images * self.size**2 * (1 if self.mode == "L" else 3)
        return self.n_bytes + self.n_images * _CARD_BYTES + pixel_bytes


def source_file(source: Path, published_md5: str = "", n_bytes: int = 0) -> SourceFile:
    """The card of a source; one that differs from the published file is used all the same, with a warning.

    Args:
        source: a file, or a folder, which is known by its name and ``n_bytes``.
        published_md5: of the file, where one is.
        n_bytes: bytes of the pictures in a folder.

    Raises:
        DataError: when the file cannot be read.
    """
    if source.is_dir():
        return SourceFile(source.name, n_bytes)
    size = source.stat().st_size
    found = md5(source) if size <= _HASHED_BYTES else ""
    if found and published_md5 and found != published_md5:
        _LOG.warning("%s has md5 %s, the published file %s", source, found, published_md5)
    return SourceFile(source.name, size, found)
