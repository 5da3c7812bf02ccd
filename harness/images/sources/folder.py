"""A user's own pictures: a folder, or an archive of one, with a subfolder for each class."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.errors import ConfigError, DataError
from harness.images.datasets import READERS
from harness.images.originals import Picture
from harness.images.plan import Plan, source_file
from harness.images.sources.archives import Member, members

# fmt: off
KINDS = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga",
    ".tif", ".tiff", ".webp",
)
# fmt: on
TERMS = "the user's own pictures"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class _Place(NamedTuple):
    """Where a picture lies below the folder that all classes share."""

    class_name: str
    group: str
    file: str


def plans(dataset: str, sources: Sequence[Path], pipeline: str = "easyfsl", size: int = 84) -> list[Plan]:
    """Plan a set of a user's pictures: a class is a folder with pictures, named by its path below the common one.

    Where classes lie two or more folders deep, the folder above is their group. Pictures that lie beside the
    classes, and files of other kinds, are left out.

    Args:
        dataset: its name; small letters, digits and dashes, and not that of a known set.
        sources: one folder or archive.
        pipeline: name of the default pipeline.
        size: default edge in pixels.

    Raises:
        ConfigError: when the name cannot be one.
        DataError: when the source has fewer than two classes, or is broken.
    """
    if dataset in READERS or not _NAME.fullmatch(dataset):
        why = "is the name of a known data set" if dataset in READERS else "cannot name a data set"
        raise ConfigError(f"`{dataset}` {why}. Use small letters, digits and dashes, like `my-birds`.")
    if len(sources) != 1:
        raise DataError(f"{dataset} is prepared from one folder or archive, {len(sources)} were given.")
    source = sources[0]
    listed = [(m.path, m.n_bytes) for m in members(source) if _is_picture(m)]
    depth = _common_depth([path for path, _ in listed])
    kept = [(place, n) for path, n in listed if (place := _place(path, depth))]
    classes = {place.class_name for place, _ in kept}
    if len(classes) < 2:
        raise DataError(
            f"{source} has pictures in {len(classes)} folder(s); a data set needs a folder for each class. "
            f"Pictures are files of the kinds {' '.join(KINDS)}."
        )
    n_bytes = sum(n for _, n in kept)
    return [
        Plan(
            dataset=dataset,
            population=f"folder {source.name}",
            mode="RGB",
            sources=(source_file(source, n_bytes=n_bytes),),
            terms=TERMS,
            n_images=len(kept),
            n_bytes=n_bytes,
            pipeline=pipeline,
            size=size,
            pictures=lambda: _pictures(source, depth),
        )
    ]


def _pictures(source: Path, depth: int) -> Iterator[Picture]:
    for member in members(source):
        if _is_picture(member) and (place := _place(member.path, depth)):
            yield Picture(place.class_name, place.file, member.read, place.group)


def _is_picture(member: Member) -> bool:
    parts = PurePosixPath(member.path).parts
    return PurePosixPath(parts[-1]).suffix.lower() in KINDS and not any(p.startswith(".") for p in parts)


def _common_depth(paths: Sequence[str]) -> int:
    """Number of folders that all pictures share; a picture beside the classes does not count as sharing fewer."""
    folders = {str(PurePosixPath(p).parent) for p in paths}
    deep = {f for f in folders if not any(other.startswith(f"{f}/") for other in folders)} - {"."}
    if len(deep) < 2:
        return 0
    common = os.path.commonpath(sorted(deep))
    return len(PurePosixPath(common).parts)


def _place(path: str, depth: int) -> _Place | None:
    *folders, file = PurePosixPath(path).parts[depth:]
    return _Place("/".join(folders), "/".join(folders[:-1]), file) if folders else None
