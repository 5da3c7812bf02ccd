"""Roles as a benchmark's file describes them: which classes of which prepared set, and how many images of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.benchmarks.experiments import JointClasses
from harness.images.sources.draws import Published


@dataclass(frozen=True)
class Role:
    """The classes of one role.

    Attributes:
        dataset: the prepared set that holds the images.
        classes: number of images used of each class, by class name, in the order of labels.
        images: only these of each class are used, from and up to, as a slice has them; None for all.
        rotations: whether every class counts four times, rotated by 0, 90, 180 and 270 degrees.
    """

    dataset: str
    classes: Mapping[str, int]
    images: tuple[int, int] | None = None
    rotations: bool = False

    @property
    def counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(C,) images per class, rotations counted."""
        return np.repeat(np.array(list(self.classes.values()), dtype=np.int64), 4 if self.rotations else 1)


def read_role(data: Mapping[str, Any], folder: Path) -> Role:
    """``images = n`` uses the first n of each class, ``[a, b]`` those from a to b, counted as a slice counts."""
    classes = _split(data["split"], folder / "splits")
    images = data.get("images")
    if images is not None:
        images = (0, images) if isinstance(images, int) else tuple(images)
        classes = {name: len(range(count)[slice(*images)]) for name, count in classes.items()}
    return Role(data["dataset"], classes, images, data.get("rotations", False))


def _split(text: str, folder: Path) -> dict[str, int]:
    """``FILE.json#KEY`` or ``FILE.json#KEY+KEY``: images by class."""
    file, _, keys = text.partition("#")
    split = json.loads((folder / file).read_text())
    return {name: count for key in keys.split("+") for name, count in split[key].items()}


def read_joint(fields: dict[str, Any], splits: Path) -> JointClasses:
    """``asked`` names the classes of the half in use, ``draws`` published draws and ``sizes`` what goes with them."""
    base, novel = fields["roles"]["base"], fields["roles"]["novel"]
    draws, sizes = fields.pop("draws", ""), fields.pop("sizes", "")
    return JointClasses(
        base.classes,
        novel.classes,
        frozenset(_split(fields.pop("asked"), splits)),
        fields["n_query"],
        Published(splits / draws, _split(sizes, splits)) if draws else None,
    )
