"""Stanford Dogs (Khosla et al. 2011): ``images.tar``, and the lists in ``lists.tar``; all are ImageNet pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import DataError
from harness.images.maps import Progress
from harness.images.plan import Plan
from harness.images.sources import listed
from harness.images.sources.download import download

URL = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
# no md5 is published: the pictures are counted, and the digests found are recorded
FILES = ("images.tar", "lists.tar")
_LISTS = {"train_list.mat": "train", "test_list.mat": "test"}


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan the 20,580 pictures of 120 folders; classes are called as the folders, ``n02085620-Chihuahua``.

    Args:
        dataset: ``dogs``.
        sources: the two archives, or a folder that has them or ``Images`` and the lists unpacked.

    Raises:
        DataError: when a file is missing, broken or another than the official one.
    """
    lists = listed.read_lists(dataset, sources, list(_LISTS), ["lists.t*"])
    places = {}
    for name, content in lists.items():
        (files,) = listed.read_mat(name, content, ["file_list"])
        for file in map(str, files):  # n02085620-Chihuahua/n02085620_5927.jpg
            folder, slash, picture = file.partition("/")
            if not slash or "/" in picture:
                raise DataError(f"{name} lists {file[:60]!r}, which is not a folder and a picture.")
            places[picture] = listed.Place(folder, _LISTS[name])
    archive = listed.Archive(("images.t*",), "", "Images")
    return [listed.plan(dataset, sources, archive, lists, places, published={}, size=84)]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Download the two archives.

    Raises:
        DataError: as ``download``.
    """
    place = folder / dataset  # images.tar is a name that others have, too
    return [download(f"{URL}{name}", place / name, expected_md5=None, progress=progress) for name in FILES]
