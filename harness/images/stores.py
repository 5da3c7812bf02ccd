"""Images of a prepared set: opened without reading pixels, selected by class, gathered by row."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import DataError, nearest
from harness.images import maps
from harness.images.augmentations import ORIGINALS, CropsFrom, augmentation, is_cropped
from harness.images.datasets import how_to_have_originals, how_to_prepare
from harness.images.manifest import Manifest
from harness.images.originals import Originals, cards
from harness.images.pipelines import Pixels, pipeline
from harness.system.folders import is_rehearsal

if TYPE_CHECKING:
    from harness.images.full import FullPictures

IntArray = npt.NDArray[np.int64]
Rows = IntArray | Sequence[int]
REHEARSAL = "-rehearsal-"  # in the digests of made-up images, after the part that names are made of
LARGE_PICTURE = 1_000_000  # pixels of a picture that takes longer to decode than crops of it are worth
ROTATIONS = ("rot000", "rot090", "rot180", "rot270")


@dataclass(frozen=True)
class PreparedSet:
    """A data set on disk; rows are contiguous per class, classes sorted by name.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
    """

    folder: Path
    manifest: Manifest

    @staticmethod
    def open(folder: Path) -> PreparedSet:
        """Open a prepared set.

        Raises:
            DataError: when it is absent or broken; says how to prepare it.
        """
        return PreparedSet(folder, Manifest.read(folder, how_to_prepare(folder.name)))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class."""
        return tuple(c.name for c in self.manifest.classes)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Group (alphabet, superclass) of each class."""
        return tuple(c.group for c in self.manifest.classes)

    @cached_property
    def counts(self) -> IntArray:
        """(n_classes,) int64 images per class."""
        return np.array([c.n_images for c in self.manifest.classes], dtype=np.int64)

    @cached_property
    def labels(self) -> IntArray:
        """(N,) int64 class of each row."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def files(self) -> list[tuple[str, str, str]]:
        """(class, source file, author) of each row; the author is empty where unknown."""
        return list(cards(self.folder))

    def originals(self) -> Originals:
        """Open the source bytes; use as a context manager.

        Raises:
            DataError: when the set was prepared without them.
        """
        if not self.manifest.has_originals:
            raise DataError(
                f"{self.manifest.dataset} was prepared without the original pictures. "
                f"{how_to_have_originals(self.manifest.dataset, self.folder)}"
            )
        return Originals(self.folder)

    def has_pictures(self, view: str) -> bool:
        """Whether there are pictures that training crops can be cut from: originals, or squares that a pipeline begins with."""
        first = pipeline(view).geometry.first
        squares = maps.map_path(self.folder, pipeline("stored").geometry, first)
        return self.manifest.has_originals or (first > 0 and maps.is_whole(squares))

    @cached_property
    def extents(self) -> IntArray:
        """(N, 2) int64 height and width of each original picture in pixels.

        Raises:
            DataError: when the set was prepared without them.
        """
        with self.originals() as kept:
            return kept.extents

    def map(self, view: str, size: int, progress: maps.Progress | None = None) -> Pixels:
        """Pixels of every image through a pipeline's geometry; built on first use where originals are kept.

        Args:
            view: name of a pipeline; those of equal geometry share a map.
            size: edge in pixels.
            progress: told (done, all) while the map is built.

        Returns:
            (N, size, size, C) uint8, memory-mapped, polarity as in the file.

        Raises:
            DataError: when it is absent and cannot be built.
        """
        return maps.ensure_map(self.folder, self.manifest, pipeline(view).geometry, size, progress)

    def class_digests(self, view: str, size: int) -> tuple[str, ...]:
        """sha256 over each class's pixels, as recorded when the map was built."""
        return maps.recorded_digests(self.folder, pipeline(view).geometry, size)

    def select(
        self,
        classes: Sequence[str],
        view: str,
        size: int,
        images: slice | Sequence[slice] | None = None,
        rotations: bool = False,
        name: str = "",
    ) -> ImageStore:
        """Take the images of one role.

        Args:
            classes: names, in the order of the labels.
            view: name of the pipeline.
            size: edge in pixels.
            images: which of each class's images, of all alike or class by class; all by default.
            rotations: whether each class becomes four, turned counter-clockwise: ``<class>/rot000`` … ``/rot270``.
            name: name of the store; the data set's by default.

        Raises:
            DataError: when a class is not in the set or no image of it is selected.
        """
        index = self._indices(classes)
        pixels = np.asarray(self.map(view, size))
        digests = self.class_digests(view, size)
        turns = ROTATIONS if rotations else ("",)
        rows = [r for r in self._rows(index, images) for _ in turns]
        return ImageStore(
            name=name or self.manifest.dataset,
            class_names=tuple(f"{c}/{turn}" if turn else c for c in classes for turn in turns),
            groups=tuple(self.groups[c] for c in index for _ in turns),
            digest=_digest(classes, [digests[c] for c in index], view, size, images, rotations),
            pixels=pixels,
            source=np.concatenate(rows),
            counts=np.array([len(r) for r in rows], dtype=np.int64),
            is_rotated=rotations,
            prepared=self,
        )

    def _rows(self, index: Sequence[int], images: slice | Sequence[slice] | None) -> list[IntArray]:
        starts = np.cumsum(self.counts) - self.counts
        each = [images or slice(None)] * len(index) if isinstance(images, slice | None) else images
        rows = [np.arange(starts[c], starts[c] + self.counts[c])[s] for c, s in zip(index, each, strict=True)]
        if empty := [self.class_names[c] for c, r in zip(index, rows, strict=True) if not len(r)]:
            raise DataError(f"No image of {', '.join(empty)} is in {images} of {self.manifest.dataset}.")
        return rows

    def _indices(self, classes: Sequence[str]) -> list[int]:
        place = {name: i for i, name in enumerate(self.class_names)}
        missing = [c for c in classes if c not in place]
        if missing or not classes:
            shown = f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}" if missing else "no class"
            raise DataError(
                f"{len(missing)} of {len(classes)} classes are not in {self.manifest.dataset} "
                f"({self.manifest.population}, {len(place)} classes): {shown}."
                f"{nearest(missing[0], place) if missing else ''} {how_to_prepare(self.manifest.dataset)}"
            )
        return [place[c] for c in classes]


@dataclass(frozen=True)
class ImageStore:
    """The images of one role (base, validation or novel): what episodes index.

    Attributes:
        name: for messages.
        class_names: (n_classes) names, in label order.
        groups: group of each class.
        digest: sha256 over class names, pixel digests, pipeline, size, image slice and rotation; has
            ``-rehearsal-`` in it where the images are made up.
        pixels: (N, H, W, C) uint8, the map behind it.
        source: (n,) int64, the row of the map behind each row of the store; contiguous per class.
        counts: (n_classes,) int64 images per class.
        is_rotated: whether each fourth class is turned by a quarter more, counter-clockwise.
        prepared: the set behind it, which may have the original pictures; None for images made in memory.
    """

    name: str
    class_names: tuple[str, ...]
    groups: tuple[str, ...]
    digest: str
    pixels: Pixels
    source: IntArray
    counts: IntArray
    is_rotated: bool = False
    prepared: PreparedSet | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def n_classes(self) -> int:
        """Number of classes, rotated ones counted."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        height, width, channels = self.pixels.shape[1:]
        return height, width, channels

    @cached_property
    def label(self) -> IntArray:
        """(n,) int64 class of each row."""
        return np.repeat(np.arange(self.n_classes), self.counts)

    @cached_property
    def starts(self) -> IntArray:
        """(n_classes,) int64 first row of each class."""
        return np.cumsum(self.counts) - self.counts

    def images(self, rows: Rows) -> Pixels:
        """Gather images.

        Args:
            rows: (n,) rows in any order; may repeat.

        Returns:
            (n, H, W, C) uint8, a copy, polarity as in the file (``views.to_float`` turns ink to 1).
        """
        index = np.asarray(rows, dtype=np.int64)
        taken: Pixels = self.pixels[self.source[index]]  # (n, H, W, C)
        if self.is_rotated:
            turns = self.label[index] % 4
            for quarter in (1, 2, 3):
                which = np.flatnonzero(turns == quarter)
                taken[which] = np.rot90(taken[which], quarter, axes=(1, 2))
        return taken

    @cached_property
    def image_names(self) -> list[str]:
        """(n,) a name for each row, CLASS/FILE of the prepared set; one that comes again has its number behind it.

        Raises:
            DataError: for images made in memory, which come from no files.
        """
        files = [Path(file).name for _, file, _ in self._kept().files()]
        names = [
            f"{self.class_names[c]}/{files[row]}" for c, row in zip(self.label, self.source, strict=True)
        ]
        seen: Counter[str] = Counter()
        for i, name in enumerate(names):
            seen[name] += 1
            names[i] = f"{name}#{seen[name]}" if seen[name] > 1 else name
        return names

    @property
    def pictures(self) -> str:
        """sha256 over class names and the checksums of the original pictures, whatever becomes of them; or empty.

        Stores of equal ``pictures`` show the same photographs row by row, at any size and through any pipeline. Empty
        where the originals are not kept.
        """
        if self.prepared is None or not self.prepared.manifest.has_originals:
            return ""
        with self.prepared.originals() as kept:
            content = kept.index[self.source, 1:3]  # (n, 2) length and CRC-32
        digest = hashlib.sha256(json.dumps([list(self.class_names), self.counts.tolist()]).encode())
        digest.update(np.ascontiguousarray(content).tobytes())
        return digest.hexdigest()

    def cut_from(self, size: int, view: str, how: str = "", crops_from: CropsFrom | None = None) -> int:
        """What random training crops of these images are cut from.

        Pictures of usual size are cut as they are. Larger ones would be slow to decode, and are cut from a map of three
        times the size, or of the longest edge of a picture of the set where that is less. Windows are cut from what the
        pipeline resizes to; where a pipeline begins with squares, those are the pictures.

        Args:
            size: of the crops in pixels.
            view: name of the pipeline.
            how: name of the augmentation; that of the pipeline by default.
            crops_from: what the user says.

        Returns:
            The edge of a map of whole pictures in pixels, ORIGINALS for the pictures themselves, 0 for the stored squares:
            where the user says so, where no crops are cut, and by default where there are no pictures.

        Raises:
            DataError: when there are no original pictures and the user asks for what needs them.
        """
        if crops_from == "stored" or not is_cropped(how or view):
            return 0
        if self.prepared is None or not self.prepared.has_pictures(view):
            if crops_from is not None:
                self._kept().originals()  # says what is missing
            return 0
        geometry = pipeline(view).geometry
        if geometry.first:
            return geometry.first
        if augmentation(how or view).crop == "window":
            return geometry.edge(size)
        extents = self.prepared.extents
        is_usual = np.median(extents.prod(axis=1)) <= LARGE_PICTURE
        if crops_from == "originals" or (crops_from is None and is_usual):
            return ORIGINALS
        return min(3 * size, int(extents.max()))

    def _kept(self) -> PreparedSet:
        """The set on disk.

        Raises:
            DataError: when the images were made in memory.
        """
        if self.prepared is None:
            raise DataError(f"{self.name} was made in memory: it has no original pictures.")
        return self.prepared

    def whole(self, edge: int, progress: maps.Progress | None = None, view: str = "stored") -> WholePictures:
        """The same images uncropped, each squashed onto a square.

        Args:
            edge: of the squares in pixels.
            progress: told (done, all) while they are decoded for the first time.
            view: name of the pipeline; one that begins with squares takes those for the pictures.

        Raises:
            DataError: when there are no original pictures.
        """
        found = self._kept()
        if pipeline(view).geometry.first:
            extents = np.full((len(self), 2), edge)
        else:
            extents = found.extents[self.source]  # (n, 2)
        if self.is_rotated:
            is_lying = self.label % 2 == 1
            extents[is_lying] = extents[is_lying, ::-1]
        pixels = np.asarray(found.map("stored", edge, progress))
        return WholePictures(replace(self, pixels=pixels), extents)

    def full(self, progress: maps.Progress | None = None) -> FullPictures:
        """The pictures at their own size.

        Args:
            progress: told (done, all) while they are decoded for the first time.

        Raises:
            DataError: when there are no original pictures.
        """
        from harness.images.full import FullPictures  # with torch, which those who only look do without

        found = self._kept()
        kept = found.originals()
        quarters = self.label % 4 if self.is_rotated else np.zeros_like(self.source)
        return FullPictures(found.folder, found.manifest, kept, self.source, quarters, progress)


class WholePictures(NamedTuple):
    """Uncropped images, and the proportions they had before they were squashed.

    Attributes:
        store: the images, squares.
        extents: (n, 2) int64 height and width of each original picture in pixels.
    """

    store: ImageStore
    extents: IntArray


def store_of_arrays(
    name: str, pixels: Pixels, class_names: Sequence[str], groups: Sequence[str] = (), view: str = "stored"
) -> ImageStore:
    """Make a store of images in memory, the same number for each class.

    Args:
        name: name of the store.
        pixels: (n_classes, n_images, H, W, C) uint8.
        class_names: in label order.
        groups: group of each class; empty strings by default.
        view: name of the pipeline the pixels are meant for.
    """
    n_classes, n_images, size = pixels.shape[:3]
    flat = pixels.reshape(-1, *pixels.shape[2:])  # (n, H, W, C)
    digests = maps.pixel_digests(flat, [n_images] * n_classes)
    return ImageStore(
        name=name,
        class_names=tuple(class_names),
        groups=tuple(groups) or ("",) * n_classes,
        digest=_digest(class_names, digests, view, size, None, False),
        pixels=flat,
        source=np.arange(len(flat)),
        counts=np.full(n_classes, n_images, dtype=np.int64),
    )


def _digest(
    classes: Sequence[str],
    digests: Sequence[str],
    view: str,
    size: int,
    images: slice | Sequence[slice] | None,
    rotations: bool,
) -> str:
    part: Any = [images.start, images.stop, images.step] if isinstance(images, slice) else None
    if images is not None and not isinstance(images, slice):
        part = [[s.start, s.stop] for s in images]
    card = ["fsbench images v1", list(classes), list(digests), view, size, part, rotations]
    digest = hashlib.sha256(json.dumps(card).encode()).hexdigest()
    return f"{digest[:8]}{REHEARSAL}{digest[8:]}"[: len(digest)] if is_rehearsal() else digest
