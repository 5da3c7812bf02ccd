"""Average precision of detections: COCO's own evaluation says the same, and cases that can be counted by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from harness.stats.detection import (
    Detections,
    Objects,
    average_precision,
    mean_average_precision,
    overlap,
)


def by_coco(found: Detections, there: Objects, threshold: float, per_image: int) -> dict[int, float]:
    """The same by pycocotools; boxes are x, y, width, height there."""
    coco, evaluate = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")

    def xywh(box: Any) -> list[float]:
        left, top, right, bottom = map(float, box)
        return [left, top, right - left, bottom - top]

    images = np.union1d(np.asarray(found.image), np.asarray(there.image)).tolist()
    labels = np.union1d(np.asarray(found.label), np.asarray(there.label)).tolist()
    crowd = there.is_crowd if there.is_crowd is not None else np.zeros(len(there.label), dtype=bool)  # type: ignore[arg-type]
    truth = [
        {"id": k + 1, "image_id": int(i), "category_id": int(c), "bbox": xywh(b), "area": xywh(b)[2] * xywh(b)[3], "iscrowd": int(w)}
        for k, (i, b, c, w) in enumerate(zip(there.image, there.box, there.label, crowd, strict=True))  # type: ignore[arg-type, call-overload]
    ]  # fmt: skip
    given = [
        {"image_id": int(i), "category_id": int(c), "bbox": xywh(b), "score": float(s)}
        for i, b, s, c in zip(*found, strict=True)  # type: ignore[arg-type, call-overload]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = {
            "images": [{"id": i} for i in images], "categories": [{"id": c} for c in labels], "annotations": truth, "info": {},
        }  # fmt: skip
        known.createIndex()
        run = evaluate.COCOeval(known, known.loadRes(given), "bbox")
        run.params.iouThrs, run.params.maxDets = np.array([threshold]), [per_image]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][0, :, :, 0, 0]  # (101, C); -1 where a class has no object
    return {c: float(precision[:, k].mean()) for k, c in enumerate(labels) if precision[0, k] > -1}


def made_up(
    seed: int, n_images: int, n_labels: int, *, crowds: bool, ties: bool
) -> tuple[Detections, Objects]:
    """Objects, and detections that are some of them moved, beside others."""
    rng = np.random.default_rng(seed)
    n = n_images * 4
    corner, size = rng.uniform(0, 60, (n, 2)), rng.uniform(4, 30, (n, 2))
    box = np.concatenate([corner, corner + size], axis=1)
    image, label = rng.integers(0, n_images, n), rng.integers(1, n_labels + 1, n)
    is_crowd = rng.random(n) < 0.15 if crowds else None
    moved = np.concatenate([box, box[rng.random(n) < 0.5], box[rng.permutation(n)[: n // 2]]])
    moved = moved + rng.normal(0, 2.5, moved.shape)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    m = len(moved)
    image_of = np.resize(image, m)
    label_of = np.where(rng.random(m) < 0.8, np.resize(label, m), rng.integers(1, n_labels + 1, m))
    score = rng.integers(0, 8, m) / 8 if ties else rng.random(m)
    return Detections(image_of, moved, score, label_of), Objects(image, box, label, is_crowd)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("crowds", "ties"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("threshold", "per_image"), [(0.5, 100), (0.75, 100), (0.5, 2)])
def test_coco_says_the_same(seed: int, crowds: bool, ties: bool, threshold: float, per_image: int) -> None:
    found, there = made_up(seed, 12, 3, crowds=crowds, ties=ties)
    mine = average_precision(found, there, threshold=threshold, per_image=per_image)
    assert mine == pytest.approx(by_coco(found, there, threshold, per_image), abs=1e-12)
    assert 0.002 < mean_average_precision(found, there, threshold=threshold, per_image=per_image) < 0.95


BOXES = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]


def test_all_found_is_one_and_nothing_found_is_zero() -> None:
    there = Objects([0, 0], BOXES, [1, 1])
    assert average_precision(Detections([0, 0], BOXES, [0.9, 0.8], [1, 1]), there) == {1: 1.0}
    assert average_precision(Detections([], np.zeros((0, 4)), [], []), there) == {1: 0.0}
    assert average_precision(Detections([1, 0], BOXES, [0.9, 0.8], [1, 2]), there) == {
        1: 0.0
    }  # other image, other class


def test_a_second_detection_of_an_object_is_false() -> None:
    there = Objects([0, 0], BOXES, [1, 1])
    twice = Detections([0, 0, 0], [BOXES[0], BOXES[0], BOXES[1]], [0.9, 0.8, 0.7], [1, 1, 1])
    # right at ranks 1 and 3: precision 1 up to recall 1/2 (51 of 101 recalls), then 2/3
    assert average_precision(twice, there)[1] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_overlap_of_the_threshold_is_enough_and_less_is_not() -> None:
    half = [0.0, 0.0, 10.0, 5.0]
    there, found = Objects([0], [BOXES[0]], [1]), Detections([0], [half], [0.5], [1])
    assert overlap([half], [BOXES[0]]).tolist() == [[0.5]]
    assert average_precision(found, there, threshold=0.5) == {1: 1.0}
    assert average_precision(found, there, threshold=0.51) == {1: 0.0}


def test_what_takes_a_crowd_counts_neither_way() -> None:
    there = Objects([0, 0], BOXES, [1, 1], [False, True])
    inside = [22.0, 2.0, 24.0, 4.0]  # its own area is within the crowd
    found = Detections([0, 0, 0], [inside, inside, BOXES[0]], [0.9, 0.8, 0.7], [1, 1, 1])
    assert average_precision(found, there) == {1: 1.0}


def test_no_object_is_no_number() -> None:
    nothing = Objects([], np.zeros((0, 4)), [])
    assert average_precision(Detections([0], [BOXES[0]], [0.5], [1]), nothing) == {}
    assert np.isnan(mean_average_precision(Detections([0], [BOXES[0]], [0.5], [1]), nothing))
    assert (
        average_precision(Detections([0], [BOXES[0]], [0.5], [1]), Objects([0], [BOXES[0]], [1], [True]))
        == {}
    )


@pytest.mark.parametrize(
    ("found", "there", "threshold", "message"),
    [
        (Detections([0], BOXES, [0.5], [1]), Objects([0], [BOXES[0]], [1]), 0.5, "1 images, 2 boxes"),
        (Detections([0], [BOXES[0]], [np.nan], [1]), Objects([0], [BOXES[0]], [1]), 0.5, "finite"),
        (Detections([0], [BOXES[0]], [0.5], [1]), Objects([0, 1], [BOXES[0]], [1]), 0.5, "2 images, 1 boxes"),
        (Detections([0], [BOXES[0]], [0.5], [1]), Objects([0], [BOXES[0]], [1]), 0.0, "threshold"),
    ],
)
def test_what_makes_no_sense_is_refused(
    found: Detections, there: Objects, threshold: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision(found, there, threshold=threshold)
