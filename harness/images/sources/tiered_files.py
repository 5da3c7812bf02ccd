"""tieredImageNet as files of 84-pixel pictures: Ren's PNG pickles, or npz; labels of Ren or of MetaOptNet.

``<split>_images_png.pkl`` is a list of PNG streams, each a uint8 array; ``<split>_images.npz`` an array `images`.
``<split>_labels.pkl`` has `label_specific` (and `label_general`), or `labels`. Label i is class i of the list in the
split file, which is not the order of the csv; class sizes, and superclasses where they are given, have to agree.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.images.originals import Picture
from harness.images.pipelines import Pixels, decode, encode_ppm
from harness.images.sources import pickles, splits
from harness.images.sources.archives import Member, contents
from harness.images.sources.arrays import NpzImages, checked_labels, dictionary, field, is_bgr, spread

SIDE = 84
_KINDS = (".pkl", ".npz")
_LOG = logging.getLogger("fsbench.data")
_FILE = re.compile(r"(?:tiered-imagenet-)?(train|val|test)_(images_png\.pkl|images\.npz|labels\.pkl)")
ROLE = {"train": "base", "val": "validation", "test": "novel"}
Labels = npt.NDArray[np.int64]


class Survey(NamedTuple):
    """What the files hold.

    Attributes:
        n_images: pictures of all splits.
        n_bytes: that they take on the way.
        bgr: image files whose pictures have blue first.
        note: the order of colours found, for the manifest.
    """

    n_images: int
    n_bytes: int
    bgr: frozenset[str]
    note: str


def names(sources: Sequence[Path]) -> list[str]:
    """The image files among the sources; nothing is read yet."""
    return [m.path for s in sources for m in contents(s, _KINDS) if _is_images(m)]


def survey(sources: Sequence[Path]) -> Survey:
    """Read every file once: count, check labels, tell the order of colours.

    Raises:
        DataError: when a file is broken or missing, or labels do not fit the split.
    """
    n_images, n_bytes, bgr, notes = 0, 0, set(), []
    for file, images, wnids in _each(sources):
        n_images += len(wnids)
        n_bytes += sum(len(s) for s in images) if isinstance(images, list) else len(wnids) * 3 * SIDE**2
        rows = spread(len(wnids))
        sample = (
            (decoded(s, file) for s in images[rows]) if isinstance(images, list) else _every(images, rows)
        )
        if is_bgr(sample, file):
            bgr.add(file)
        notes.append(f"{PurePosixPath(file).name}: {'BGR, turned to RGB' if file in bgr else 'RGB'}")
        _LOG.info("order of colours, by the means of the channels: %s", notes[-1])
    return Survey(n_images, n_bytes, frozenset(bgr), f"order of colours found: {'; '.join(notes)}")


def pictures(sources: Sequence[Path], bgr: frozenset[str]) -> Iterator[Picture]:
    """The pictures of all splits, red first.

    Args:
        sources: as for ``survey``.
        bgr: files whose pictures have blue first.
    """
    group = splits.read("tiered")["superclass"]
    for file, images, wnids in _each(sources):
        split = _FILE.fullmatch(PurePosixPath(file).name)
        stem = split[1] if split else file
        for row, (image, wnid) in enumerate(zip(images, wnids, strict=True)):
            read = partial(encoded, image, file, file in bgr)
            yield Picture(wnid, f"{stem}/{row:06d}", read, group[wnid], order=row)


def _each(
    sources: Sequence[Path],
) -> Iterator[tuple[str, list[npt.NDArray[np.uint8]] | NpzImages, list[str]]]:
    """(image file, its pictures, the WordNet id of each), one split in memory at a time."""
    labels = dict(_labels(sources))
    for source in sources:
        for member in contents(source, _KINDS):
            if match := _is_images(member):
                if match[1] not in labels:
                    raise DataError(f"{member.path} has no {match[1]}_labels.pkl beside it.")
                images = _streams(member) if match[2].endswith("pkl") else _npz(member)
                wnids = class_of_each(labels[match[1]], ROLE[match[1]], member.path)
                if len(wnids) != len(images):
                    raise DataError(f"{member.path} has {len(images):,} pictures and {len(wnids):,} labels.")
                yield member.path, images, wnids


def _labels(sources: Sequence[Path]) -> Iterator[tuple[str, tuple[Labels, Labels | None]]]:
    """(split, label of each picture, its superclass's number where that is given)."""
    for source in sources:
        for member in contents(source, _KINDS):
            match = _FILE.fullmatch(PurePosixPath(member.path).name)
            if match and match[2] == "labels.pkl":
                with member.open() as stream:
                    card = dictionary(stream, member.path)
                key = "label_specific" if "label_specific" in card else "labels"
                value = field(card, key, member.path)
                n = len(value) if isinstance(value, list | np.ndarray) else -1
                general = card.get("label_general")
                yield (
                    match[1],
                    (
                        checked_labels(value, n, member.path),
                        None if general is None else checked_labels(general, n, member.path),
                    ),
                )


def class_of_each(labels: tuple[Labels, Labels | None], role: str, name: str) -> list[str]:
    """WordNet id of each picture; refuses labels that cannot be in the known order."""
    split = splits.read("tiered")
    order, size, group = split["label_order"][role], split[role], split["superclass"]
    values, place, counts = np.unique(labels[0], return_inverse=True, return_counts=True)
    if len(values) != len(order) or [size[w] for w in order] != counts.tolist():
        raise DataError(
            f"{name}: its labels have {len(values)} classes, of {counts.min(initial=0)} to "
            f"{counts.max(initial=0)} images, and are not the {role} classes in the known order."
        )
    if labels[1] is not None:
        pairs = {(group[order[i]], int(g)) for i, g in zip(place, labels[1], strict=True)}
        if not len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
            raise DataError(f"{name}: `label_general` does not fit the superclasses of the {role} classes.")
    return [order[i] for i in place]


def _streams(member: Member) -> list[npt.NDArray[np.uint8]]:
    """PNG streams, (n_bytes,) uint8 each."""
    with member.open() as stream:
        found = pickles.load(stream, member.path)
    if not isinstance(found, list) or not all(
        isinstance(s, np.ndarray) and s.dtype == np.uint8 and s.size == max(s.shape, default=0) for s in found
    ):
        raise DataError(f"{member.path} is not a list of PNG streams.")
    return [s.reshape(-1) for s in found]


def _npz(member: Member) -> NpzImages:
    images = NpzImages(member.open, "images", member.path)
    if images.shape[1:3] != (SIDE, SIDE):
        raise DataError(f"{member.path} holds {images.shape} where {SIDE} pixels were expected.")
    return images


def _every(images: Iterable[Pixels], rows: slice) -> Iterator[Pixels]:
    return (image for i, image in enumerate(images) if i % rows.step == 0)


def encoded(image: npt.NDArray[np.uint8], name: str, is_turned: bool) -> bytes:
    """The bytes to keep of a PNG stream, (n_bytes,), or of pixels, (84, 84, 3); blue first is turned to red first."""
    if image.ndim == 1 and not is_turned:
        return image.tobytes()
    pixels = decoded(image, name) if image.ndim == 1 else image
    return encode_ppm(pixels[..., ::-1] if is_turned else pixels)


def decoded(stream: npt.NDArray[np.uint8], name: str) -> Pixels:
    """Pixels, (84, 84, 3), of a PNG stream, (n_bytes,) uint8.

    Raises:
        DataError: when it is not a whole picture of that size.
    """
    try:
        pixels = np.asarray(decode(stream.tobytes(), "RGB"))
    except DataError as error:
        raise DataError(f"{name}: a picture {error}.") from error
    if pixels.shape != (SIDE, SIDE, 3):
        raise DataError(f"{name}: a picture has {pixels.shape[:2]} pixels, {SIDE}×{SIDE} were expected.")
    return pixels


def _is_images(member: Member) -> re.Match[str] | None:
    match = _FILE.fullmatch(PurePosixPath(member.path).name)
    return match if match and match[2] != "labels.pkl" else None
