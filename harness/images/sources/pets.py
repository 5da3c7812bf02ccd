"""Oxford-IIIT Pet (Parkhi et al. 2012): ``images.tar.gz`` and the lists in ``annotations.tar.gz``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import DataError
from harness.images.maps import Progress
from harness.images.plan import Plan
from harness.images.sources import listed
from harness.images.sources.download import download

URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
MD5 = {  # as torchvision has them
    "images.tar.gz": "5c4f3ee8e5d25df40f4fd59a7f44e54c",
    "annotations.tar.gz": "95a8c909bbe2e81eed6a22bccdf3f68f",
}
_LISTS = ("trainval.txt", "test.txt")


def plans(dataset: str, sources: Sequence[Path]) -> list[Plan]:
    """Plan the 7,349 pictures that the lists name; the archive has a few more, which are left out.

    Args:
        dataset: ``pets``.
        sources: the two archives, or a folder that has them or ``images`` and ``annotations`` unpacked.

    Raises:
        DataError: when a file is missing, broken or another than the official one.
    """
    lists = listed.read_lists(dataset, sources, _LISTS, ["annotations.t*"])
    places = {}
    for name, content in lists.items():
        for line in content.decode("utf-8", "replace").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            words = line.split()  # Abyssinian_100 1 1 1: picture, class, species, breed
            if len(words) != 4:
                raise DataError(f"{name} has a line that is not a picture and three numbers: {line[:60]!r}.")
            places[f"{words[0]}.jpg"] = listed.Place(words[0].rpartition("_")[0], Path(name).stem)
    archive = listed.Archive(("images.t*",), MD5["images.tar.gz"], "images")
    return [listed.plan(dataset, sources, archive, lists, places, published={}, size=84)]


def fetch(dataset: str, folder: Path, progress: Progress | None) -> list[Path]:
    """Download the two archives.

    Raises:
        DataError: as ``download``.
    """
    place = folder / dataset  # images.tar.gz is a name that others have, too
    return [download(f"{URL}{n}", place / n, expected_md5=m, progress=progress) for n, m in MD5.items()]
