"""Fine-grained sets whose official lists lie beside the pictures: a list says the class and the part of each file."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from harness.errors import DataError
from harness.images.account import shown
from harness.images.datasets import how_to_prepare, reader
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.plan import Plan, source_file
from harness.images.sources import splits
from harness.images.sources.archives import archive_or_folder, members, outline

_LOG = logging.getLogger("fsbench.data")
_DEPTHS = ("", "*/", "*/*/")


class Place(NamedTuple):
    """Where the lists put a picture: its class, and its part ("train", "val", "trainval" or "test")."""

    class_name: str
    part: str


class Archive(NamedTuple):
    """How the pictures are published: globs of the archive's name, its md5, and the folder in it."""

    names: tuple[str, ...]
    md5: str
    folder: str


def plan(
    dataset: str,
    sources: Sequence[Path],
    archive: Archive,
    lists: Mapping[str, bytes],
    places: Mapping[str, Place],
    *,
    published: Mapping[str, str],
    size: int,
) -> Plan:
    """Plan a set whose lists were read; within a class the pictures of a part lie together, in the order of the parts.

    Args:
        dataset: its name, and that of its split file, which has the number of pictures of each class by part.
        sources: as given.
        archive: of the pictures.
        lists: contents of the list files, by name.
        places: file name of each picture → its place.
        published: md5 of list files; others are used, with a warning.
        size: default edge in pixels.

    Raises:
        DataError: when lists or pictures are not those of the set.
    """
    split = splits.read(dataset)
    parts = [
        part for part in ("train", "val", "trainval", "test") if any(p.part == part for p in places.values())
    ]
    found = Counter(places.values())
    wrong = [
        f"{name} has {found[Place(name, part)]} {part} pictures of {n}"
        for part in parts
        for name, n in split[part].items()
        if found[Place(name, part)] != n
    ]
    strange = sorted({p.class_name for p in places.values()} - set(split["all"]))
    if wrong or strange or sum(found.values()) != sum(split["all"].values()):
        told = (
            shown([*wrong, *(f"{name} is no class of it" for name in strange)]) or f"{len(places):,} pictures"
        )
        raise DataError(
            f"{', '.join(lists)} are not the official lists of {dataset}: {told}. {how_to_prepare(dataset)}"
        )
    source = _locate(dataset, sources, archive)
    sizes = {name: m.n_bytes for m in members(source) if (name := PurePosixPath(m.path).name) in places}
    if missing := sorted(set(places) - set(sizes)):
        raise DataError(
            f"{source} lacks {len(missing):,} of the {len(places):,} pictures that the lists of {dataset} name: "
            f"{shown(missing)}. {outline(source)}. {how_to_prepare(dataset)}"
        )
    n_bytes = sum(sizes.values())
    cards = [_card(name, content, published.get(name, "")) for name, content in lists.items()]
    return Plan(
        dataset=dataset,
        population=dataset,
        mode="RGB",
        sources=(source_file(source, archive.md5, n_bytes), *cards),
        terms=reader(dataset).terms,
        n_images=len(places),
        n_bytes=n_bytes,
        pipeline="feat",
        size=size,
        pictures=lambda: _pictures(source, places, parts),
    )


def read_lists(
    dataset: str, sources: Sequence[Path], wanted: Sequence[str], archives: Sequence[str] = ()
) -> dict[str, bytes]:
    """Read list files that are given, lie in a given folder, or are in an archive there.

    Args:
        dataset: whose.
        sources: files and folders.
        wanted: names of the files.
        archives: globs of archives that hold them.

    Raises:
        DataError: when one is not there.
    """
    found: dict[str, bytes] = {}
    for path in _files(sources, wanted):
        found.setdefault(path.name, path.read_bytes())
    if set(found) < set(wanted):
        for archive in _files(sources, archives):
            for member in members(archive):
                if (name := PurePosixPath(member.path).name) in wanted:
                    found.setdefault(name, member.read())
    if missing := [name for name in wanted if name not in found]:
        given = ", ".join(map(str, sources))
        raise DataError(f"{given} has no {', '.join(missing)}. {how_to_prepare(dataset)}")
    return {name: found[name] for name in wanted}


def read_mat(name: str, content: bytes, keys: Sequence[str]) -> list[Any]:
    """Arrays of a MATLAB file, flat.

    Raises:
        DataError: when it is none, or lacks one of them.
    """
    from scipy.io import loadmat

    try:
        card = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=list(keys))
        return [card[key].ravel() for key in keys]
    except KeyError as error:
        raise DataError(f"{name} has no variable {error}.") from error
    except Exception as error:  # scipy raises many kinds on broken files
        raise DataError(f"{name} is not a MATLAB file ({type(error).__name__}: {error}).") from error


def _files(sources: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    """Files of these names (globs) among the sources, or in a folder among them or up to two below."""
    for source in sources:
        if source.is_file():
            yield from [source] if any(fnmatch(source.name, name) for name in names) else []
            continue
        for name in names:
            yield from sorted(p for depth in _DEPTHS for p in source.glob(f"{depth}{name}") if p.is_file())


def _locate(dataset: str, sources: Sequence[Path], archive: Archive) -> Path:
    """The archive of the pictures, or a folder that has them unpacked."""
    for source in sources:
        if source.is_file():
            if any(fnmatch(source.name, name) for name in archive.names):
                return source
            continue
        if (found := archive_or_folder(source, archive.names, archive.md5, [archive.folder])) != source:
            return found
        folders = [source, *(p for depth in _DEPTHS for p in source.glob(f"{depth}{archive.folder}"))]
        if folder := next((p for p in folders if p.is_dir() and p.name == archive.folder), None):
            return folder
    given = ", ".join(map(str, sources))
    raise DataError(
        f"{given} has neither {archive.names[0]} nor a folder {archive.folder}. {how_to_prepare(dataset)}"
    )


def _card(name: str, content: bytes, published_md5: str) -> SourceFile:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if published_md5 and found != published_md5:
        _LOG.warning("%s has md5 %s, the published file %s", name, found, published_md5)
    return SourceFile(name, len(content), found)


def _pictures(source: Path, places: Mapping[str, Place], parts: Sequence[str]) -> Iterator[Picture]:
    for member in members(source):
        name = PurePosixPath(member.path).name
        if place := places.get(name):
            yield Picture(
                place.class_name, name, member.read, order=parts.index(place.part), path=member.path
            )
