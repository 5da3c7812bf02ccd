"""The caches of mini-ImageNet that descend from Ravi's images: Ren's, Gidaris's and LibFewShot's pickles, TADAM's npz."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.images.originals import Picture
from harness.images.pipelines import Pixels, encode_ppm
from harness.images.sources import pickles, splits
from harness.images.sources.archives import Member, contents
from harness.images.sources.arrays import (
    NpzImages,
    checked_images,
    checked_labels,
    dictionary,
    field,
    npz_array,
)

SIDE = 84
_KINDS = (".pkl", ".pickle", ".npz", ".pth")
_LOG = logging.getLogger("fsbench.data")
_ROLE = {
    "train": "base",
    "train_phase_train": "base",
    "val": "validation",
    "validation": "validation",
    "test": "novel",
}
_REN = re.compile(r"mini-imagenet-cache-(train|val|validation|test)\.pkl")
_GIDARIS = re.compile(r"miniImageNet_category_split_(train_phase_train|val|test)\.pickle")
_TADAM = re.compile(r"few-shot-(train|val|test)\.npz")
_LIBFEWSHOT = re.compile(r"(train|val|test)\.pth")
_MORE = re.compile(r"miniImageNet_category_split_train_phase_(val|test)\.pickle")


class Cache(NamedTuple):
    """Images of one role, (84, 84, 3) uint8 each (LibFewShot's of any size), and the WordNet id of each."""

    path: str
    images: Iterable[Pixels]
    wnids: list[str]


def names(sources: Sequence[Path]) -> list[str]:
    """The caches among the sources, given themselves, in folders or in archives; nothing is read yet.

    Raises:
        DataError: when two hold one role.
    """
    found = [(m.path, kind[1]) for source in sources for m in contents(source, _KINDS) if (kind := _kind(m))]
    if len({role for _, role in found}) < len(found):
        shown = ", ".join(path for path, _ in found)
        raise DataError(f"{shown} hold one role twice; give the caches of one publisher alone.")
    return [path for path, _ in found]


def each(sources: Sequence[Path]) -> Iterator[Cache]:
    """Read the caches one after the other; each is to be used before the next is taken.

    Raises:
        DataError: when one is broken or its classes or counts are not those of its role.
    """
    for source in sources:
        for member in contents(source, _KINDS):
            if kind := _kind(member):
                read, role = kind
                expected: dict[str, int] = splits.read("mini")[role]
                cache = read(member, sorted(expected))
                _check_counts(cache, role, expected)
                yield cache


def pictures(sources: Sequence[Path]) -> Iterator[Picture]:
    """The pictures of all caches, in their order."""
    for cache in each(sources):
        stem = PurePosixPath(cache.path).stem
        for row, (image, wnid) in enumerate(zip(cache.images, cache.wnids, strict=True)):
            yield Picture(wnid, f"{stem}/{row:05d}", partial(encode_ppm, image), order=row)


def _check_counts(cache: Cache, role: str, expected: dict[str, int]) -> None:
    found = Counter(cache.wnids)
    wrong = [
        f"{n} has {found[n]} of {expected.get(n, 0)}"
        for n in {*found, *expected}
        if found[n] != expected.get(n, 0)
    ]
    if wrong:
        raise DataError(
            f"{cache.path} does not hold the {role} images of mini-ImageNet: {'; '.join(sorted(wrong)[:3])}"
            f"{' …' if len(wrong) > 3 else ''}."
        )


def _kind(member: Member) -> tuple[Callable[[Member, list[str]], Cache], str] | None:
    """How to read a cache and its role, by its file name; None of any other file."""
    name = PurePosixPath(member.path).name
    for pattern, read_kind in (
        (_REN, _ren),
        (_GIDARIS, _gidaris),
        (_TADAM, _tadam),
        (_LIBFEWSHOT, _libfewshot),
    ):
        if match := pattern.fullmatch(name):
            return read_kind, _ROLE[match[1]]
    if _MORE.fullmatch(name):
        _LOG.info("%s holds further images of base classes and is left out", member.path)
    return None


def _ren(cache: Member, wnids: list[str]) -> Cache:
    """``image_data`` and ``class_dict``: WordNet id → rows."""
    with cache.open() as stream:
        card = dictionary(stream, cache.path)
    images = checked_images(field(card, "image_data", cache.path), SIDE, cache.path)
    rows_of = field(card, "class_dict", cache.path)
    if not isinstance(rows_of, dict):
        raise DataError(f"{cache.path}: `class_dict` is a {type(rows_of).__name__}.")
    owner = np.full(len(images), "", dtype="U9")
    for wnid, rows in rows_of.items():
        index = checked_labels(rows, len(rows) if isinstance(rows, list | np.ndarray) else -1, cache.path)
        if index.min(initial=0) < 0 or index.max(initial=0) >= len(images) or (owner[index] != "").any():
            raise DataError(f"{cache.path}: the rows of {wnid} are not rows of its own.")
        owner[index] = str(wnid)
    return Cache(cache.path, images, owner.tolist())


def _gidaris(cache: Member, wnids: list[str]) -> Cache:
    """``data``, ``labels`` and ``catname2label``; the labels of a role are in the order of its WordNet ids."""
    with cache.open() as stream:
        card = dictionary(stream, cache.path)
    images = checked_images(field(card, "data", cache.path), SIDE, cache.path)
    labels = checked_labels(field(card, "labels", cache.path), len(images), cache.path)
    named = card.get("catname2label")
    if isinstance(named, dict) and set(named) >= set(wnids):
        owner = {label: wnid for wnid, label in named.items()}
        return Cache(cache.path, images, [str(owner.get(label, "?")) for label in labels.tolist()])
    return Cache(cache.path, images, _in_order(labels, wnids, cache.path))


def _tadam(cache: Member, wnids: list[str]) -> Cache:
    """``features`` and ``targets``, the place of the WordNet id among those of its role."""
    images = NpzImages(cache.open, "features", cache.path)
    if images.shape[1:3] != (SIDE, SIDE):
        raise DataError(f"{cache.path} holds {images.shape} where images of {SIDE} pixels were expected.")
    labels = checked_labels(npz_array(cache.open, "targets", cache.path), len(images), cache.path)
    return Cache(cache.path, images, _in_order(labels, wnids, cache.path))


def _libfewshot(cache: Member, wnids: list[str]) -> Cache:
    """Pictures, the label of each, and a dictionary WordNet id → label; a pickle, whatever its name says."""
    with cache.open() as stream:
        content = pickles.load(stream, cache.path)
    if not isinstance(content, tuple | list) or len(content) != 3 or not isinstance(content[2], dict):
        raise DataError(f"{cache.path} is not pictures, labels and a dictionary of classes.")
    images, labels, label_of = content
    if not isinstance(images, list) or not all(_is_picture(image) for image in images):
        raise DataError(f"{cache.path} does not hold a list of pictures.")
    owner = {label: str(wnid) for wnid, label in label_of.items() if isinstance(label, int)}
    found = checked_labels(labels, len(images), cache.path)
    return Cache(cache.path, images, [owner.get(label, "?") for label in found.tolist()])


def _is_picture(value: object) -> bool:
    return (
        isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3
    )


def _in_order(labels: npt.NDArray[np.int64], wnids: list[str], name: str) -> list[str]:
    values, place = np.unique(labels, return_inverse=True)
    if len(values) != len(wnids):
        raise DataError(f"{name} has {len(values)} classes where {len(wnids)} were expected.")
    return [wnids[i] for i in place]
