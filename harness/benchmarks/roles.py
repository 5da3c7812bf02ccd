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
        starts: the first image used of each class, where a role has a stretch of its own in each; None as a rule.
    """

    dataset: str
    classes: Mapping[str, int]
    images: tuple[int, int] | None = None
    rotations: bool = False
    starts: Mapping[str, int] | None = None

    @property
    def is_part(self) -> bool:
        """Whether classes have other images, too."""
        return self.images is not None or self.starts is not None

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Class → which of its images are used, from and up to; of a part counted from the end, as if from the first."""
        begin = max(self.images[0], 0) if self.images else 0
        starts = self.starts or dict.fromkeys(self.classes, begin)
        return {name: (starts[name], starts[name] + n) for name, n in self.classes.items()}

    @property
    def taken(self) -> slice | list[slice] | None:
        """Which images of each class a store selects."""
        if self.starts is not None:
            return [slice(*span) for span in self.spans.values()]
        return slice(*self.images) if self.images else None

    @property
    def counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(C,) images per class, rotations counted."""
        return np.repeat(np.array(list(self.classes.values()), dtype=np.int64), 4 if self.rotations else 1)


def read_role(data: Mapping[str, Any], folder: Path) -> Role:
    """``images = n`` uses the first n of each class, ``[a, b]`` those from a to b, counted as a slice counts.

    ``after = [KEY, …]`` uses as many images of each class as the split says, after those that the other keys of its
    file count: the parts of an official split, which lie one after the other.
    """
    classes = _split(data["split"], folder / "splits")
    images = data.get("images")
    if images is not None:
        images = (0, images) if isinstance(images, int) else tuple(images)
        classes = {name: len(range(count)[slice(*images)]) for name, count in classes.items()}
    starts = None
    if (after := data.get("after")) is not None:
        file = data["split"].partition("#")[0]
        before = [_split(f"{file}#{key}", folder / "splits") for key in after]
        starts = {name: sum(part[name] for part in before) for name in classes}
    return Role(data["dataset"], classes, images, data.get("rotations", False), starts)


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
