"""Grid and random crops of original pictures, against DeepEMD's own numbers and plain Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from picture_files import encoded, noise
from PIL import Image

from harness.errors import DataError
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.patches import Crops, Grid, RandomCrops, grid_boxes, grid_interval
from harness.images.pipelines import SQUASH_92
from harness.images.plan import Plan
from harness.images.prepare import write
from harness.images.stores import ImageStore, store_of_arrays

GOLDEN = Path(__file__).parents[1] / "golden" / "deepemd" / "grid_locations.npz"
SHAPES = [(60, 90), (90, 60), (61, 47), (100, 100)]  # height, width


def picture(i: int) -> np.ndarray:
    return noise(i, *SHAPES[i % 4])


def plan(n: int = 8, **changes: object) -> Plan:
    def pictures() -> Iterator[Picture]:
        for i in range(n):
            yield Picture(f"c{i % 2}", f"{i}.png", lambda i=i: encoded(picture(i), "PNG"), order=i)  # type: ignore[misc]

    whole = Plan("birds", "x", "RGB", (SourceFile("x", 1),), "none", n, n * 9999, "feat", 20, pictures)
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return write(plan(), tmp_path).dataset.select(["c1", "c0"], "feat", 20)


def test_grid_intervals_are_the_published_ones() -> None:
    with np.load(GOLDEN) as golden:
        asked, expected = golden["size_num_ratio_index"], golden["start_end"]
    assert len(asked) == 300
    found = [grid_interval(int(side), int(k), ratio, int(index)) for side, k, ratio, index in asked.tolist()]
    np.testing.assert_array_equal(found, expected)


def test_a_grid_without_enlargement_covers_the_picture_once() -> None:
    for k in (1, 2, 3):
        covered = np.zeros((6 * k, 4 * k), dtype=int)
        for left, top, right, bottom in grid_boxes(4 * k, 6 * k, k, 1.0):
            covered[top:bottom, left:right] += 1
        assert (covered == 1).all()


def cut(i: int, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    patch = Image.fromarray(picture(i)).crop(box)
    return np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR))


def test_grid_crops_are_cut_from_the_originals(store: ImageStore) -> None:
    grid = Grid()
    assert grid.n_crops == 13
    with Crops(store, grid, 24) as crops:
        found = crops.images([0, 5, 0])
    assert found.shape == (3, 13, 24, 24, 3)
    assert found.dtype == np.uint8
    for crop_set, i in zip(
        found, (1, 2, 1), strict=True
    ):  # rows of c1 are pictures 1, 3, 5, 7; of c0 0, 2, 4, 6
        height, width = SHAPES[i % 4]
        boxes = [box for k in (2, 3) for box in grid_boxes(width, height, k, 2.0)]
        np.testing.assert_array_equal(crop_set, [cut(i, box, 24) for box in boxes])


def test_grid_crops_are_the_same_whatever_the_seed_and_others_in_training(store: ImageStore) -> None:
    with Crops(store, Grid(), 24, seed=1) as crops, Crops(store, Grid(), 24, seed=2) as others:
        np.testing.assert_array_equal(crops.images([3]), others.images([3]))
        first = crops.images([3], training_pass=0)
        np.testing.assert_array_equal(first, crops.images([3], training_pass=0))
        assert (first != crops.images([3], training_pass=1)).any()
        assert (first != others.images([3], training_pass=0)).any()


def test_training_enlarges_each_grid_by_one_ratio_and_mirrors(store: ImageStore) -> None:
    with Crops(store, Grid((2,)), 24, seed=5) as crops:
        found = crops.images([0], training_pass=0)[0]
    matches = []
    for ratio in np.linspace(1, 3, 400):  # every ratio that gives another box of a 90×60 picture
        plain = np.stack([cut(1, box, 24) for box in grid_boxes(60, 90, 2, float(ratio))])
        same = [(p == f).all() or (p[:, ::-1] == f).all() for p, f in zip(plain, found, strict=True)]
        matches.append(all(same))
    assert any(matches)
    assert not all(matches)


def test_patches_can_be_finished_by_another_geometry(store: ImageStore) -> None:
    with Crops(store, Grid((1,), ratio=1.0, patch=SQUASH_92), 84) as crops:
        found = crops.images([4])[0, 0]
    np.testing.assert_array_equal(found, SQUASH_92(Image.fromarray(picture(0)), 84))


def test_random_crops_belong_to_the_picture_not_the_batch(store: ImageStore) -> None:
    with Crops(store, RandomCrops(9), 24, seed=7) as crops:
        together = crops.images(range(8))
        assert together.shape == (8, 9, 24, 24, 3)
        np.testing.assert_array_equal(together[[6, 2]], crops.images([6, 2]))
        assert len({c.tobytes() for c in together[0]}) == 9
        assert (crops.images([0], training_pass=0) != together[0]).any()
    with Crops(store, RandomCrops(9), 24, seed=8) as others:
        assert (others.images([0]) != together[0]).any()


def test_sets_without_originals_are_refused(store: ImageStore, tmp_path: Path) -> None:
    small = write(plan(has_originals=False, pipeline="stored"), tmp_path / "small").dataset
    with pytest.raises(
        DataError, match=r"without the original pictures.*fsbench import-folder PATH --name birds"
    ) as caught:
        Crops(small.select(["c0"], "stored", 20), Grid(), 24)
    assert caught.value.exit_code == 3


def test_images_made_in_memory_are_their_own_originals() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12, 1), dtype=np.uint8)
    tiny = store_of_arrays("tiny", pixels, ["a", "b"])
    with Crops(tiny, Grid((1, 2), ratio=1.0), 12) as crops:
        found = crops.images([4])  # the second of class b
    assert (found[0, 0] == pixels[1, 1]).all()  # the whole picture, at its own size
    quarter = Image.fromarray(pixels[1, 1, :6, :6, 0]).resize((12, 12), Image.Resampling.BILINEAR)
    assert (found[0, 1, :, :, 0] == np.asarray(quarter)).all()


def test_pictures_of_rotated_classes_are_turned_before_they_are_cut(store: ImageStore) -> None:
    assert store.prepared is not None
    upright = store.prepared.select(["c0"], "feat", 20)
    turned = store.prepared.select(["c0"], "feat", 20, rotations=True)
    with (
        Crops(upright, Grid((1,), ratio=1.0), 24) as crops,
        Crops(turned, Grid((1,), ratio=1.0), 24) as others,
    ):
        for quarter in range(4):  # a square of the whole picture turns with it
            row = int(turned.starts[quarter])
            expected = np.rot90(crops.images([0])[0, 0].astype(int), quarter)
            assert abs(others.images([row])[0, 0].astype(int) - expected).max() <= 1  # rounding of the filter


def test_a_picture_too_small_for_its_grid_is_named(store: ImageStore) -> None:
    with Crops(store, Grid((80,)), 24) as crops, pytest.raises(DataError, match="row 4 of birds is 60×90"):
        crops.images([0])
