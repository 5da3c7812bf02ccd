"""ImageNet low-shot from the user's own ILSVRC2012: base training pictures, the novel ones any experiment draws, validation.

Experiments name training pictures by their position within a class. Validation pictures, the held-out ones, come after
them. The published list that positions count in is known by its digest alone; which order of file names it has is found
by making it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from harness.errors import DataError
from harness.images.datasets import how_to_prepare, reader
from harness.images.maps import Progress
from harness.images.originals import Picture
from harness.images.plan import Plan, source_file
from harness.images.sources import imagenet, mini, splits
from harness.images.sources.archives import Member, members
from harness.images.sources.draws import Published
from harness.images.sources.lowshot_features import n_held_out_images

SIZE = 224
PUBLISHED_LIST = "9e2377b2e42f52a03a64dd023f00b548988744ce"  # git's blob id of the authors' train.json
_LOG = logging.getLogger("fsbench.data")
_HELD_OUT = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_AFTER_TRAINING = 1_000_000  # where the order of held-out pictures begins
Positions = Mapping[tuple[str, str], int]  # (WordNet id, file) → order within the class


class Facts(NamedTuple):
    """What is published: sizes of all classes in label order, base classes, draws, held-out pictures a class."""

    sizes: Mapping[str, int]
    base: frozenset[str]
    published: Published
    n_held_out: int


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan the set from ILSVRC2012's training and validation pictures.

    Args:
        dataset: ``imagenet-lowshot``.
        sources: training pictures as ``imagenet.pictures`` takes them, and validation pictures called
            ``ILSVRC2012_val_<8 digits>.JPEG`` in any archive or folder.

    Raises:
        DataError: when a class lacks pictures, training or validation.
    """
    facts = read_facts()
    files: dict[str, list[str]] = defaultdict(list)
    n_bytes: dict[tuple[str, str], int] = {}
    for found in imagenet.pictures(sources, facts.sizes):
        files[found.wnid].append(found.file)
        n_bytes[found.wnid, found.file] = found.member.n_bytes
    _demand_whole(dataset, {name: len(files[name]) for name in facts.sizes}, facts.sizes, "training")
    order, note = in_published_order(files, facts.sizes)
    kept = dict(_kept(order, facts))
    held_out = {(name, file): member.n_bytes for name, file, member in _held_out(sources)}
    counts = dict.fromkeys(facts.sizes, 0)
    for name, _ in held_out:
        counts[name] += 1
    _demand_whole(dataset, counts, dict.fromkeys(facts.sizes, facts.n_held_out), "validation")
    total = sum(n_bytes[key] for key in kept) + sum(held_out.values())
    return [
        Plan(
            dataset=dataset,
            population=mini.REBUILT,
            mode="RGB",
            sources=tuple(source_file(s, n_bytes=total) for s in sources),
            terms=reader(dataset).terms,
            n_images=len(kept) + len(held_out),
            n_bytes=total,
            pipeline="simpleshot",
            size=SIZE,
            pictures=lambda: _pictures(sources, kept),
            note=note,
        )
    ]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Say that ImageNet's pictures cannot be downloaded for a user.

    Raises:
        DataError: always.
    """
    return mini.fetch(dataset, folder, progress)


@cache
def read_facts() -> Facts:
    """Read the split file."""
    split = splits.read("imagenet-lowshot")
    published = Published(splits.FOLDER / "imagenet-lowshot-draws.json.gz", split["sizes"])
    base = frozenset({**split["base_1"], **split["base_2"]})
    return Facts(split["sizes"], base, published, n_held_out_images(split))


def in_published_order(
    files: Mapping[str, Sequence[str]], sizes: Mapping[str, int]
) -> tuple[dict[str, list[str]], str]:
    """Sort the training files of each class as the published list has them.

    Args:
        files: training file names by class.
        sizes: all classes in label order.

    Returns:
        The sorted names by class, and a note saying how the order was found.
    """
    rules: dict[str, Callable[[str], object]] = {"text": str, "number": _by_number}
    for rule, key in rules.items():
        ordered = {name: sorted(files[name], key=key) for name in sizes}  # type: ignore[arg-type]
        if list_digest(ordered) == PUBLISHED_LIST:
            return ordered, f"file names sorted as {rule}: the published list"
    _LOG.warning(
        "The published list of training pictures is met neither by sorting file names as text nor by number; they are "
        "sorted as text. The experiments are then other draws of the same kind: means compare, single experiments do not."
    )
    return {name: sorted(files[name]) for name in sizes}, "file names sorted as text: not the published list"


def list_digest(ordered: Mapping[str, Sequence[str]]) -> str:
    """Name the blob id that git would give the authors' list of training pictures, were it made of these names."""
    content = json.dumps({
        "label_names": list(ordered),
        "image_labels": [label for label, files in enumerate(ordered.values()) for _ in files],
        "image_names": [f"train/{name}/{file}" for name, files in ordered.items() for file in files],
    }).encode()  # fmt: skip
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _by_number(file: str) -> int:
    return int(_NUMBER.findall(file)[-1])


def _kept(order: Mapping[str, Sequence[str]], facts: Facts) -> Iterator[tuple[tuple[str, str], int]]:
    """((class, file), position) of the training pictures that are prepared."""
    for name, files in order.items():
        positions = range(len(files)) if name in facts.base else facts.published.kept(name).tolist()
        yield from (((name, files[position]), position) for position in positions)


def _held_out(sources: Sequence[Path]) -> Iterator[tuple[str, str, Member]]:
    """(class, file, member) of the validation pictures; their number says the class."""
    class_of = _class_of_number()
    for source in sources:
        for member in members(source, lambda folder: folder == "Annotations"):
            file = PurePosixPath(member.path).name
            match = _HELD_OUT.fullmatch(file)
            if match and int(match[1]) in class_of:
                yield class_of[int(match[1])], file, member


@cache
def _class_of_number() -> Mapping[int, str]:
    with np.load(splits.FOLDER / "imagenet-lowshot-val.npz") as card:
        numbers = card["val_ids"]  # (1000, 50)
    return {int(n): name for name, row in zip(read_facts().sizes, numbers, strict=True) for n in row}


def _pictures(sources: Sequence[Path], kept: Positions) -> Iterator[Picture]:
    names = {name for name, _ in kept}
    for wnid, file, member in imagenet.pictures(sources, names):
        if (wnid, file) in kept:
            yield Picture(wnid, file, member.read, order=kept[wnid, file])
    for name, file, member in _held_out(sources):
        yield Picture(name, file, member.read, order=_AFTER_TRAINING + _by_number(file))


def _demand_whole(dataset: str, found: Mapping[str, int], expected: Mapping[str, int], kind: str) -> None:
    wrong = [f"{name} has {found[name]:,} of {n:,}" for name, n in expected.items() if found[name] != n]
    if wrong:
        raise DataError(
            f"{dataset}: {len(wrong)} of {len(expected)} classes have another number of {kind} pictures than ILSVRC2012: "
            f"{'; '.join(wrong[:3])}. {how_to_prepare(dataset)}"
        )
