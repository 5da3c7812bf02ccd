"""CUB-200-2011 from its tgz or folder: `cub` whole pictures, `cub-bbox` each cut to its bounding box."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from harness.errors import DataError
from harness.images.datasets import how_to_prepare, reader
from harness.images.maps import Progress
from harness.images.originals import Picture
from harness.images.pipelines import decode, encode_png
from harness.images.plan import Plan, source_file
from harness.images.sources import splits
from harness.images.sources.archives import archive_or_folder, members, outline
from harness.images.sources.download import download

URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
_FLAT = re.compile(r"(.+)_\d{4}_\d+")  # Black_Footed_Albatross_0001_796111


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan CUB from its archive or folder.

    Args:
        dataset: ``cub`` or ``cub-bbox``.
        sources: ``CUB_200_2011.tgz``, the folder of that name, or a folder that holds one of them.

    Raises:
        DataError: when it is not CUB, is truncated, a class lacks images, or a box is missing.
    """
    if len(sources) != 1:
        raise DataError(f"{dataset} is prepared from one source, {len(sources)} were given.")
    classes = splits.read("cub")["all"]
    source = archive_or_folder(sources[0], ["CUB_200_2011.t*"], MD5, ["images", next(iter(classes))])
    is_cut = dataset == "cub-bbox"
    layout = _Layout.of(source, classes)
    found = [(*place, m.n_bytes) for m in members(source) if (place := layout.place(m.path))]
    _check_counts(Counter(name for name, _, _ in found), classes, source)
    boxes = _boxes(source) if is_cut else None
    if boxes is not None and (lacking := [file for _, file, _ in found if file not in boxes]):
        raise DataError(f"{source}: bounding_boxes.txt has no box of {', '.join(lacking[:3])}.")
    n_bytes = sum(n for _, _, n in found)
    return [
        Plan(
            dataset=dataset,
            population="cub-200-2011-bbox" if is_cut else "cub-200-2011",
            mode="RGB",
            sources=(source_file(source, MD5, n_bytes),),
            terms=reader(dataset).terms,
            n_images=len(found),
            n_bytes=3 * n_bytes if is_cut else n_bytes,  # half of a picture, but without loss
            pipeline="feat-resnet12",
            size=84,
            pictures=lambda: _pictures(source, layout, boxes),
        )
    ]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Download CUB-200-2011.

    Raises:
        DataError: as ``download``.
    """
    return [download(URL, folder / "CUB_200_2011.tgz", expected_md5=MD5, progress=progress)]


def crop_to_box(content: bytes, box: Box, name: str) -> bytes:
    """Cut an encoded picture to a box, rounded outwards and to the picture → PNG.

    Raises:
        DataError: when the picture is broken or the box does not lie in it.
    """
    x, y, width, height = box
    try:
        image = decode(content, "RGB")
    except DataError as error:
        raise DataError(f"{name} {error}.") from error
    left, top = max(math.floor(x), 0), max(math.floor(y), 0)
    right, bottom = min(math.ceil(x + width), image.width), min(math.ceil(y + height), image.height)
    if right <= left or bottom <= top:
        raise DataError(f"{name} is {image.width}×{image.height}; its box {box} is not in it.")
    return encode_png(np.asarray(image.crop((left, top, right, bottom))))


@dataclass(frozen=True)
class _Layout:
    """How pictures are laid out: in folders by class, with or without their numbers, or all in one.

    Attributes:
        class_of: name of a class, with and without its number, in small letters → class.
        is_below_images: whether the pictures are those below a folder ``images``; others beside it are copies.
    """

    class_of: Mapping[str, str]
    is_below_images: bool

    @staticmethod
    def of(source: Path, classes: Iterable[str]) -> _Layout:
        class_of = {key.lower(): name for name in classes for key in (name, name.partition(".")[2])}
        anywhere = _Layout(class_of, False)
        paths = (m.path for m in members(source))
        return replace(anywhere, is_below_images=any(_below_images(p) and anywhere.place(p) for p in paths))

    def place(self, path: str) -> tuple[str, str] | None:
        """Class and file of a picture; None of any other member."""
        *folders, file = PurePosixPath(path).parts
        if not file.lower().endswith(".jpg") or (self.is_below_images and not _below_images(path)):
            return None
        flat = _FLAT.fullmatch(PurePosixPath(file).stem)
        name = self.class_of.get(folders[-1].lower() if folders else "")
        name = name or self.class_of.get(flat[1].lower() if flat else "")
        return (name, file) if name else None


def _below_images(path: str) -> bool:
    return "images" in PurePosixPath(path).parts[-3:-1]


def _check_counts(found: Counter[str], classes: dict[str, int], source: Path) -> None:
    wrong = [
        f"{name} has {found[name]} of {classes.get(name, 0)}"
        for name in sorted({*found, *classes})
        if found[name] != classes.get(name, 0)
    ]
    if wrong:
        raise DataError(
            f"{source} does not hold the pictures of CUB-200-2011: {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more classes' if len(wrong) > 3 else ''}. {outline(source)}; wanted are pictures in folders "
            f"like 001.Black_footed_Albatross, or named Black_Footed_Albatross_0001_796111.jpg. {how_to_prepare('cub')}"
        )


def _boxes(source: Path) -> dict[str, Box]:
    """File → bounding box, from ``images.txt`` (id path) and ``bounding_boxes.txt`` (id x y width height)."""
    tables = {
        PurePosixPath(m.path).name: m.read().decode("utf-8", "replace")
        for m in members(source)
        if PurePosixPath(m.path).name in ("images.txt", "bounding_boxes.txt")
    }
    try:
        paths = dict(line.split() for line in tables["images.txt"].splitlines() if line.strip())
        rows = (line.split() for line in tables["bounding_boxes.txt"].splitlines() if line.strip())
        boxes = {number: tuple(map(float, box)) for number, *box in rows}
        return {PurePosixPath(paths[i]).name: (x, y, w, h) for i, (x, y, w, h) in boxes.items()}
    except KeyError as error:
        raise DataError(
            f"{source} lacks {error}; `cub-bbox` needs images.txt and bounding_boxes.txt."
        ) from error
    except ValueError as error:
        raise DataError(f"{source}: images.txt or bounding_boxes.txt has a broken line ({error}).") from error


def _pictures(source: Path, layout: _Layout, boxes: dict[str, Box] | None) -> Iterator[Picture]:
    for member in members(source):
        place = layout.place(member.path)
        if place:
            name, file = place
            read: Callable[[], bytes] = member.read
            yield Picture(
                name, file, partial(_cropped, read, boxes[file], file) if boxes is not None else read
            )


def _cropped(read: Callable[[], bytes], box: Box, name: str) -> bytes:
    return crop_to_box(read(), box, name)
