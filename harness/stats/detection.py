"""Average precision of detections, as COCO counts it: for RepMet's few-shot detection (mAP at an overlap of 0.5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.checks import FloatArray

_RECALLS = np.linspace(0.0, 1.0, 101)  # at which precision is read
_PER_IMAGE = 100  # detections of a class in an image that count, the best


class Detections(NamedTuple):
    """What a detector found.

    Attributes:
        image: (n,) int, the image of each.
        box: (n, 4) float, left, top, right, bottom.
        score: (n,) float, higher is surer.
        label: (n,) int, its class.
    """

    image: npt.ArrayLike
    box: npt.ArrayLike
    score: npt.ArrayLike
    label: npt.ArrayLike


class Objects(NamedTuple):
    """What is there.

    Attributes:
        image: (m,) int, the image of each.
        box: (m, 4) float, left, top, right, bottom.
        label: (m,) int, its class.
        is_crowd: (m,) bool, of many objects in one box, which nobody has to find; None for none.
    """

    image: npt.ArrayLike
    box: npt.ArrayLike
    label: npt.ArrayLike
    is_crowd: npt.ArrayLike | None = None


def overlap(a: npt.ArrayLike, b: npt.ArrayLike, is_crowd: npt.ArrayLike | None = None) -> FloatArray:
    """Intersection over union of boxes; over the first box's own area where the second is a crowd.

    Args:
        a: (n, 4) left, top, right, bottom.
        b: (m, 4).
        is_crowd: (m,) bool; None for none.

    Returns:
        (n, m) in [0, 1]; 0 where both boxes are empty.

    >>> overlap([[0, 0, 2, 2]], [[1, 0, 3, 2], [4, 4, 5, 5]]).round(3).tolist()
    [[0.333, 0.0]]
    """
    first, second = (np.asarray(box, dtype=np.float64).reshape(-1, 4) for box in (a, b))
    low = np.maximum(first[:, None, :2], second[None, :, :2])  # (n, m, 2)
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)  # (n, m)
    own, other = ((box[:, 2:] - box[:, :2]).clip(min=0).prod(axis=1) for box in (first, second))
    crowd = np.zeros(len(second), dtype=bool) if is_crowd is None else np.asarray(is_crowd, dtype=bool)
    whole = np.where(crowd, own[:, None], own[:, None] + other - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def average_precision(
    found: Detections, there: Objects, *, threshold: float = 0.5, per_image: int = _PER_IMAGE
) -> dict[int, float]:
    """Average precision of each class: precision, made monotone, read at 101 recalls (COCO).

    In each image detections take, the surest first, the object of their class that they overlap most, if that is by the
    threshold or more and nobody took it before; those that take none are false. A crowd is taken by any number, and
    what takes it counts neither way.

    Args:
        found: of all images.
        there: of all images.
        threshold: least overlap, in (0, 1].
        per_image: detections of a class in an image that count, the surest.

    Returns:
        Class → average precision in [0, 1], of each class that has an object to be found.

    Raises:
        ValueError: when lengths, scores or the threshold are not what they should be.

    >>> boxes = [[0, 0, 2, 2], [5, 5, 9, 9]]
    >>> found = Detections([0, 0, 0], [*boxes, [20, 20, 22, 22]], [0.9, 0.3, 0.5], [1, 1, 1])
    >>> round(average_precision(found, Objects([0, 0], boxes, [1, 1]))[1], 4)
    0.835
    """
    image, box, score, label = _arrays(found)
    at, place, of, crowd = _truths(there)
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold must lie in (0, 1], found {threshold}")
    precision = {}
    for name in np.unique(of[~crowd]).tolist():
        mine, theirs = label == name, of == name
        verdicts = [
            _matched(box[mine & (image == i)], score[mine & (image == i)], place[theirs & (at == i)],
                     crowd[theirs & (at == i)], threshold, per_image)
            for i in np.union1d(image[mine], at[theirs])
        ]  # fmt: skip
        scores, hits, counts = (np.concatenate(part) for part in zip(*verdicts, strict=True))
        precision[int(name)] = _area(scores[counts], hits[counts], int((theirs & ~crowd).sum()))
    return precision


def mean_average_precision(
    found: Detections, there: Objects, *, threshold: float = 0.5, per_image: int = _PER_IMAGE
) -> float:
    """Mean of ``average_precision`` over the classes that have objects; arguments and errors are those.

    Returns:
        In [0, 1]; NaN where there is no object.
    """
    by_class = average_precision(found, there, threshold=threshold, per_image=per_image)
    return float(np.mean([*by_class.values()])) if by_class else float("nan")


def _matched(
    box: FloatArray, score: FloatArray, place: FloatArray, crowd: npt.NDArray[np.bool_], threshold: float, per_image: int
) -> tuple[FloatArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:  # fmt: skip
    """Detections of one class in one image, surest first: scores, whether right, and whether counted."""
    order = np.argsort(-score, kind="stable")[:per_image]
    shared = overlap(box[order], place, crowd)  # (n, m)
    is_free = np.ones(len(place), dtype=bool)
    hit, counts = np.zeros(len(order), dtype=bool), np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        near = shared[i] >= min(threshold, 1 - 1e-10)
        for kind, rivals in ((False, near & is_free & ~crowd), (True, near & crowd)):
            if rivals.any():
                best = shared[i][rivals].max()
                taken = np.flatnonzero(rivals & (shared[i] == best))[-1]  # of equals the last, as in COCO
                is_free[taken] = False
                hit[i], counts[i] = not kind, not kind
                break
    return score[order], hit, counts


def _area(score: FloatArray, hit: npt.NDArray[np.bool_], n_objects: int) -> float:
    """Precision, made monotone from the right, at the fixed recalls; 0 where a recall is not reached."""
    right = hit[np.argsort(-score, kind="stable")].cumsum()
    recall, precision = right / n_objects, right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(place, len(precision))].mean())


def _arrays(found: Detections) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray, npt.NDArray[np.int64]]:
    image, label = (np.asarray(part, dtype=np.int64).ravel() for part in (found.image, found.label))
    box, score = (
        np.asarray(found.box, dtype=np.float64).reshape(-1, 4),
        np.asarray(found.score, dtype=np.float64),
    )
    if not len(image) == len(label) == len(box) == score.size:
        raise ValueError(
            f"{len(image)} images, {len(box)} boxes, {score.size} scores and {len(label)} labels"
        )
    if not (np.isfinite(score).all() and np.isfinite(box).all()):
        raise ValueError("scores and boxes must be finite")
    return image, box, score.ravel(), label


def _truths(
    there: Objects,
) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    at, of = (np.asarray(part, dtype=np.int64).ravel() for part in (there.image, there.label))
    place = np.asarray(there.box, dtype=np.float64).reshape(-1, 4)
    crowd = (
        np.zeros(len(of), dtype=bool) if there.is_crowd is None else np.asarray(there.is_crowd, dtype=bool)
    )
    if not len(at) == len(of) == len(place) == len(crowd):
        raise ValueError(f"{len(at)} images, {len(place)} boxes, {len(of)} labels and {len(crowd)} crowds")
    if not np.isfinite(place).all():
        raise ValueError("boxes must be finite")
    return at, place, of, crowd
