"""The closed-set protocol's list: test images of the classes that were trained on, whose images have an official split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.benchmarks.episodes import ClosedList, IntArray
from harness.benchmarks.roles import Role
from harness.errors import DataError
from harness.seeding import numpy_generator


def whole(roles: Mapping[str, Role]) -> IntArray:
    """(C,) int64 images of each class that some role uses, from the first.

    Raises:
        DataError: when the roles do not have the same classes in the same order, or use an image twice.
    """
    base = roles["base"]
    stops = np.zeros(len(base.classes), dtype=np.int64)
    for name, role in roles.items():
        if (role.dataset, list(role.classes)) != (base.dataset, list(base.classes)):
            raise DataError(
                f"In the closed-set protocol the {name} images are of the base classes, in their order."
            )
        if (np.array([start for start, _ in role.spans.values()]) < stops).any():
            raise DataError(f"The {name} images are also those of another role.")
        stops = np.array([stop for _, stop in role.spans.values()], dtype=np.int64)
    return stops


def test_images(roles: Mapping[str, Role], seed: int) -> ClosedList:
    """List the novel role's images, shuffled, and the base role's, as rows of a store of whole classes.

    Args:
        roles: base, validation where there is one, and novel, in this order.
        seed: of the order.
    """
    counts = whole(roles)
    first = np.cumsum(counts) - counts  # (C,) first row of each class
    base, base_label = _rows(roles["base"], first)
    query, label = _rows(roles["novel"], first)
    order = numpy_generator(seed, "test images").permutation(len(query))
    return ClosedList(len(counts), base, base_label, label[order][:, None], query[order][:, None, None])


def _rows(role: Role, first: IntArray) -> tuple[IntArray, IntArray]:
    """Rows of a role's images and their labels, by label."""
    spans = list(role.spans.values())
    rows = [f + np.arange(*span) for f, span in zip(first.tolist(), spans, strict=True)]
    return np.concatenate(rows), np.repeat(np.arange(len(spans)), [len(r) for r in rows])
