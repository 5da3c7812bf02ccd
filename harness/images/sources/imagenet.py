"""Pictures of ILSVRC2012's training set: the tar of tars, its inner tars, or folders by WordNet id, read forward once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from harness.images.sources.archives import Member, members, reading, tar_members

_NAME = re.compile(r"(n\d{8})_?\d+\.jpe?g", re.IGNORECASE)
_WNID = re.compile(r"n\d{8}")
_INNER = re.compile(r"(n\d{8}|ILSVRC2012_img_train)\.tar")
_KINDS = (".jpeg", ".jpg", ".png")
_OTHER_FOLDERS = ("Annotations", "ImageSets")


class Found(NamedTuple):
    """One picture: the WordNet id of its class, its file name, and where its bytes are."""

    wnid: str
    file: str
    member: Member


def pictures(sources: Sequence[Path], wanted: Collection[str]) -> Iterator[Found]:
    """Iterate over the pictures of the wanted classes, in the order of the source.

    Args:
        sources: ``ILSVRC2012_img_train.tar``; ``n01440764.tar`` and its like; folders or archives with pictures in
            folders called ``<wnid>`` at any depth (``train/…``, ``ILSVRC/Data/CLS-LOC/train/…``), or named
            ``<wnid>_<k>.JPEG`` or, as in the csv files of mini-ImageNet, ``<wnid><8 digits>.jpg``.
        wanted: WordNet ids; tars and folders of others are passed over.

    Raises:
        DataError: when an archive is broken.
    """

    def is_other(folder: str) -> bool:
        return folder in _OTHER_FOLDERS or bool(_WNID.fullmatch(folder) and folder not in wanted)

    for source in sources:
        for member in members(source, is_other):
            yield from _in_member(member, wanted)


def _in_member(member: Member, wanted: Collection[str]) -> Iterator[Found]:
    path = PurePosixPath(member.path)
    if _INNER.fullmatch(path.name):
        if not _WNID.fullmatch(path.stem) or path.stem in wanted:
            with reading(member.path), member.open() as stream:
                for inner in tar_members(stream, member.path):
                    yield from _in_member(inner, wanted)
        return
    match = _NAME.fullmatch(path.name)
    wnid = path.parent.name if _WNID.fullmatch(path.parent.name) else match[1] if match else ""
    if wnid in wanted and path.suffix.lower() in _KINDS and not path.name.startswith("ILSVRC2012_val"):
        yield Found(wnid, path.name, member)
