"""Split files: which classes play which role, how many images each has, and which 600 mini-ImageNet takes."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any, NamedTuple

from harness.system.folders import benchmarks_folder

FOLDER = benchmarks_folder() / "splits"
ROLES = ("base", "validation", "novel")


class MiniImage(NamedTuple):
    """One image of mini-ImageNet: its rank in the csv files (from 1), and its number k in ``<wnid>_<k>.JPEG``."""

    rank: int
    number: int


def read(name: str) -> dict[str, Any]:
    """Read a split file of ``benchmarks/splits`` by its stem.

    >>> len(read("mini")["novel"])
    20
    """
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return content


def mini_images() -> dict[str, tuple[MiniImage, ...]]:
    """The images of mini-ImageNet by WordNet id, ranks ascending.

    Rank r is the r-th file of the class folder sorted by the integer after the underscore.

    >>> mini_images()["n01532829"][0]
    MiniImage(rank=5, number=28)
    """
    card = read("mini_ranks")
    return {
        wnid: tuple(map(MiniImage, _bits(int(rank, 16)), accumulate(map(int, card["number"][wnid].split()))))
        for wnid, rank in card["rank"].items()
    }


def _bits(mask: int) -> list[int]:
    """Places of the ones of a mask, counted from 1, ascending."""
    return [place for place, bit in enumerate(reversed(f"{mask:b}"), start=1) if bit == "1"]
