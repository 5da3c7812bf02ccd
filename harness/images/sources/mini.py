"""mini-ImageNet: rebuilt from the user's own ImageNet, or from what descends from Ravi's images; never both in one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from harness.errors import DataError
from harness.images.datasets import how_to_prepare, reader
from harness.images.manifest import SourceFile
from harness.images.maps import Progress
from harness.images.originals import Picture
from harness.images.pipelines import decode
from harness.images.plan import Plan, source_file
from harness.images.sources import imagenet, mini_caches, splits
from harness.images.sources.archives import archive_in

REBUILT, RAVI = "imagenet-rebuilt", "ravi"
SIDE = 84
_CSV_NAME = re.compile(r"(n\d{8})(\d{8})\.jpe?g", re.IGNORECASE)
_IMAGENET_NAME = re.compile(r"(n\d{8})_(\d+)\.jpe?g", re.IGNORECASE)


class _Item(NamedTuple):
    population: str
    picture: Picture
    n_bytes: int


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan mini-ImageNet from what the sources hold.

    The population is ``imagenet-rebuilt`` where the pictures are ImageNet's files, taken by the rank rule, and
    ``ravi`` where they come with the names or in the caches that descend from Ravi's images: the classes are
    equal, the photographs perhaps not.

    Args:
        dataset: ``mini``.
        sources: pictures as ``imagenet.pictures`` takes them, or caches as ``mini_caches.names`` does.

    Raises:
        DataError: when nothing of mini-ImageNet is there, or both populations are, something is broken, or a
            class lacks images.
    """
    sources = [archive_in(s, "mini-imagenet.tar*", "images.zip") for s in sources]
    if mini_caches.names(sources):
        return [_cache_plan(dataset, sources)]
    listed = [(i.population, i.picture.class_name, i.picture.file, i.n_bytes) for i in _items(sources)]
    populations = {population for population, *_ in listed}
    if len(populations) != 1:
        what = (
            "ImageNet's own files and files named as in the csv of mini-ImageNet"
            if populations
            else "nothing"
        )
        raise DataError(
            f"{', '.join(map(str, sources))} holds {what} of {dataset}; one of the two is needed. "
            f"{how_to_prepare(dataset)}"
        )
    population = populations.pop()
    n_bytes = sum(n for *_, n in listed)
    _check_whole({(name, file) for _, name, file, _ in listed}, population)
    plan = _plan(dataset, population, tuple(source_file(s, n_bytes=n_bytes) for s in sources))
    return [
        replace(
            plan,
            n_bytes=n_bytes,
            pictures=lambda: (i.picture for i in _items(sources)),
            has_originals=not _are_small(sources),
        )
    ]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Say that ImageNet's pictures cannot be downloaded for a user.

    Raises:
        DataError: always.
    """
    raise DataError(
        f"{dataset} is made of ImageNet's pictures, which are not passed on: give your own copy. "
        f"{how_to_prepare(dataset)}"
    )


def _items(sources: Sequence[Path]) -> Iterator[_Item]:
    """The pictures of mini-ImageNet, under either kind of name, in the order of the source."""
    images = splits.mini_images()
    ranks = {wnid: {i.rank for i in row} for wnid, row in images.items()}
    rank_of = {wnid: {i.number: i.rank for i in row} for wnid, row in images.items()}
    for wnid, name, member in imagenet.pictures(sources, images):
        if (match := _CSV_NAME.fullmatch(name)) and int(match[2]) in ranks.get(match[1], ()):
            picture = Picture(match[1], f"{match[1]}{match[2]}.jpg", member.read, order=int(match[2]))
            yield _Item(RAVI, picture, member.n_bytes)
        elif (match := _IMAGENET_NAME.fullmatch(name)) and (rank := rank_of[wnid].get(int(match[2]))):
            yield _Item(
                REBUILT, Picture(wnid, f"{wnid}_{match[2]}.JPEG", member.read, order=rank), member.n_bytes
            )


def _are_small(sources: Sequence[Path]) -> bool:
    """Whether the pictures have 84 pixels already, as MAML's script leaves them; the first three tell."""
    sizes = []
    for item in islice(_items(sources), 3):
        with suppress(DataError):  # a broken picture is told when it is decoded
            sizes.append(decode(item.picture.read(), "RGB").size)
    return bool(sizes) and set(sizes) == {(SIDE, SIDE)}


def _check_whole(found: set[tuple[str, str]], population: str) -> None:
    """Every image of every class has to be there: a rank means nothing in a folder with gaps."""
    lacking: dict[str, list[str]] = {}
    for wnid, images in splits.mini_images().items():
        for image in images:
            file = f"{wnid}{image.rank:08d}.jpg" if population == RAVI else f"{wnid}_{image.number}.JPEG"
            if (wnid, file) not in found:
                lacking.setdefault(wnid, []).append(file)
    if lacking:
        shown = "; ".join(f"{wnid} lacks {len(f)} ({f[0]})" for wnid, f in list(lacking.items())[:3])
        raise DataError(
            f"mini-ImageNet is not whole: images are missing in {len(lacking)} of its classes: {shown}. "
            f"{how_to_prepare('mini')}"
        )


def _cache_plan(dataset: str, sources: Sequence[Path]) -> Plan:
    n_images, n_bytes, are_small = 0, 0, True
    for cache in mini_caches.each(sources):
        sizes = [image.nbytes for image in cache.images] if isinstance(cache.images, list) else []
        n_images += len(cache.wnids)
        n_bytes += sum(sizes) or len(cache.wnids) * 3 * SIDE**2
        are_small &= not sizes or max(sizes) <= 3 * SIDE**2
    plan = _plan(dataset, RAVI, tuple(source_file(s, n_bytes=n_bytes) for s in sources))
    return replace(
        plan,
        n_images=n_images,
        n_bytes=n_bytes + 16 * n_images,  # as PPM
        pictures=lambda: mini_caches.pictures(sources),
        has_originals=not are_small,
    )


def _plan(dataset: str, population: str, sources: tuple[SourceFile, ...]) -> Plan:
    return Plan(
        dataset=dataset,
        population=population,
        mode="RGB",
        sources=sources,
        terms=reader(dataset).terms,
        n_images=sum(map(len, splits.mini_images().values())),
        n_bytes=0,
        pipeline="metaoptnet",
        size=SIDE,
        pictures=lambda: iter(()),
    )
