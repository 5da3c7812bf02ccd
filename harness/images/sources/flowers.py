"""Oxford Flowers 102 (Nilsback and Zisserman 2008): ``102flowers.tgz``, ``imagelabels.mat`` and ``setid.mat``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import DataError
from harness.images.maps import Progress
from harness.images.plan import Plan
from harness.images.sources import listed, splits
from harness.images.sources.download import download

URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
MD5 = {  # as torchvision has them
    "102flowers.tgz": "52808999861908f626f3c1f4e79d11fa",
    "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
    "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
}
_PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan the 8,189 pictures; classes are called by number and name, ``001.pink primrose``.

    Args:
        dataset: ``flowers``.
        sources: the three files, or a folder that has them; the pictures may be unpacked, in ``jpg``.

    Raises:
        DataError: when a file is missing, broken or another than the official one.
    """
    lists = listed.read_lists(dataset, sources, ["imagelabels.mat", "setid.mat"])
    (labels,) = listed.read_mat("imagelabels.mat", lists["imagelabels.mat"], ["labels"])
    parts = listed.read_mat("setid.mat", lists["setid.mat"], list(_PARTS.values()))
    classes = dict(enumerate(splits.read("flowers")["all"], start=1))
    try:
        places = {
            f"image_{number:05d}.jpg": listed.Place(classes[int(labels[number - 1])], part)
            for part, numbers in zip(_PARTS, parts, strict=True)
            for number in map(int, numbers)
        }
    except (KeyError, IndexError) as error:
        raise DataError(f"setid.mat and imagelabels.mat do not fit each other: {error}.") from error
    archive = listed.Archive(("102flowers.t*",), MD5["102flowers.tgz"], "jpg")
    return [listed.plan(dataset, sources, archive, lists, places, published=MD5, size=84)]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Download the three files.

    Raises:
        DataError: as ``download``.
    """
    return [download(f"{URL}{n}", folder / n, expected_md5=m, progress=progress) for n, m in MD5.items()]
