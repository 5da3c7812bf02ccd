"""Training crops of pictures at their own size: bit by bit what torchvision makes of photographs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from harness.backbones.torchvision_import import import_torchvision
from harness.errors import DataError
from harness.images import full, maps
from harness.images.augment import augment, augment_full
from harness.images.augmentations import augmentation
from harness.images.colour import draw_jitter, jitter, jitter_levels
from harness.images.crops import resized_boxes
from harness.images.inputs import normalise
from harness.images.manifest import SourceFile
from harness.images.originals import Picture
from harness.images.pipelines import SHORT_92, STRAIGHT, pipeline
from harness.images.plan import Plan
from harness.images.prepare import write
from harness.images.stores import ImageStore
from harness.images.verify import verify
from harness.training.base_set import BaseSet

SHAPES = [(60, 80), (90, 50), (41, 67), (24, 24), (100, 133), (30, 50)]
ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def photograph(shape: tuple[int, int], seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    rough = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    stream = io.BytesIO()
    rough.resize(shape[::-1], Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def photographs(folder: Path, view: str = "closerlook", size: int = 16, **changes: Any) -> ImageStore:
    content = [photograph(shape, i) for i, shape in enumerate(SHAPES)]

    def pictures() -> Iterator[Picture]:
        for i, one in enumerate(content):
            yield Picture("oak", f"{i}.jpg", lambda one=one: one, "O")  # type: ignore[misc]

    card: dict[str, Any] = {
        "dataset": "oaks", "population": "made up", "mode": "RGB", "sources": (SourceFile("oaks", 1),), "terms": "",
        "n_images": len(content), "n_bytes": sum(map(len, content)), "pipeline": "stored", "size": 84, "pictures": pictures,
    }  # fmt: skip
    return write(Plan(**{**card, **changes}), folder).dataset.select(["oak"], view, size)


@pytest.fixture(params=["decoded once", "decoded when asked"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    if request.param == "decoded when asked":
        monkeypatch.setattr(full, "MOST_BYTES", 0)
    return photographs(tmp_path)


def test_crops_are_torchvisions(store: ImageStore) -> None:
    functional = import_torchvision().transforms.functional
    rows = [5, 0, 3, 3, 1, 4, 2]
    pictures = store.full()
    boxes = resized_boxes(
        *torch.from_numpy(pictures.extents[rows]).unbind(1), torch.Generator().manual_seed(3)
    )
    pictures.prefetch(rows)
    crops = pictures.crops(rows, boxes, 16)
    for row, box, ours in zip(rows, torch.stack(tuple(boxes), 1).tolist(), crops, strict=True):
        image = Image.open(io.BytesIO(photograph(SHAPES[row], row)))
        np.testing.assert_array_equal(ours, np.asarray(functional.resized_crop(image, *box, [16, 16])))
    pictures.close()


def test_a_training_batch_is_that_of_the_authors_transforms_with_the_same_draws(store: ImageStore) -> None:
    """RandomResizedCrop, ColorJitter, flip, ToTensor, Normalize on Pillow's pictures; exact but for float32 in the last two."""
    pictures, how, rows = store.full(), augmentation("resized-jitter-flip-8bit"), torch.arange(6)
    x = normalise(
        augment_full(pictures, rows, "closerlook", 16, torch.Generator().manual_seed(1), how), "closerlook"
    )
    rng, view = torch.Generator().manual_seed(1), pipeline("closerlook")
    boxes = resized_boxes(*torch.from_numpy(pictures.extents).unbind(1), rng)
    is_flipped = torch.rand(6, generator=rng) < 0.5
    factors, orders = draw_jitter(6, how.jitter, rng)
    for row, (top, left, height, width) in enumerate(torch.stack(tuple(boxes), 1).tolist()):
        image = Image.open(io.BytesIO(photograph(SHAPES[row], row)))
        image = image.crop((left, top, left + width, top + height)).resize(
            (16, 16), Image.Resampling.BILINEAR
        )
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped[row] else image
        for kind in orders[row].tolist():
            image = ENHANCE[kind](image).enhance(float(factors[row, kind]))
        expected = (np.asarray(image) / 255 - np.array(view.mean)) / np.array(view.std)
        np.testing.assert_allclose(x[row].permute(1, 2, 0).numpy(), expected, rtol=0, atol=1e-5)
    pictures.close()


def test_batches_are_cut_from_them_and_statistics_are_not(store: ImageStore) -> None:
    def first(crop: str) -> torch.Tensor:
        whole = store.full() if crop == "full" else None
        base = BaseSet(
            store, "closerlook", torch.device("cpu"), torch.Generator().manual_seed(0), whole=whole
        )
        x = torch.cat([x for x, _ in base.batches(2, augment=True)])
        plain = next(base.all_images(6))[0]
        base.close()
        return torch.stack([x, plain])

    (cut, plain), (stored, same) = first("full"), first("stored")
    assert torch.equal(plain, same) and not torch.equal(cut, stored)


def test_rotated_classes_are_turned_before_they_are_cut(tmp_path: Path) -> None:
    plain = photographs(tmp_path)
    assert plain.prepared is not None
    turned = plain.prepared.select(["oak"], "closerlook", 16, rotations=True)
    pictures = turned.full()
    assert pictures.extents[len(SHAPES)].tolist() == [80, 60]
    whole = resized_boxes(torch.tensor([80]), torch.tensor([60]), torch.Generator())
    box = whole._replace(top=torch.tensor([0]), left=torch.tensor([0]), height=torch.tensor([80]), width=torch.tensor([60]))  # fmt: skip
    image = Image.open(io.BytesIO(photograph(SHAPES[0], 0))).transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(
        pictures.crops([len(SHAPES)], box, 16)[0],
        np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR)),
    )
    pictures.close()


def test_pictures_that_are_not_as_the_index_says_are_named(store: ImageStore) -> None:
    assert store.prepared is not None
    index = np.load(store.prepared.folder / "originals.npy")
    index[2, 3:] += 1
    np.save(store.prepared.folder / "originals.npy", index)
    with pytest.raises(DataError, match="row 2 of oaks has 41×67 pixels, its index says 42×68"):
        pictures = store.full()
        pictures.crops([2], resized_boxes(torch.tensor([42]), torch.tensor([68]), torch.Generator()), 16)


def test_a_half_written_file_is_made_again(tmp_path: Path) -> None:
    store = photographs(tmp_path)
    assert store.prepared is not None
    told: list[int] = []
    store.full(lambda done, _: told.append(done)).close()
    path = store.prepared.folder / maps.FOLDER / full.FILE
    content = path.read_bytes()
    assert told == [len(SHAPES)] and len(content) == sum(3 * h * w for h, w in SHAPES)
    store.full(lambda done, _: told.append(done)).close()
    assert told == [len(SHAPES)]
    path.write_bytes(content[:100])
    store.full().close()
    assert path.read_bytes() == content


def test_a_changed_file_is_found_and_removed(tmp_path: Path) -> None:
    store = photographs(tmp_path)
    assert store.prepared is not None
    store.full().close()
    path = store.prepared.folder / maps.FOLDER / full.FILE
    said = {f.check: f.level for f in verify("oaks", tmp_path)}
    assert said["decoded pictures"] == "ok"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    said = {f.check: f.level for f in verify("oaks", tmp_path)}
    assert said["decoded pictures"] == "repaired" and not path.exists()
    assert "decoded pictures" not in {f.check for f in verify("oaks", tmp_path)}


def test_without_originals_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without the original pictures"):
        photographs(tmp_path, "stored", 84, has_originals=False).full()


def test_levels_are_cut_off_as_pillow_cuts_them() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (12, 20, 31, 3), dtype=np.uint8)
    x = torch.from_numpy(levels).permute(0, 3, 1, 2).float()
    factors, orders = draw_jitter(12, 0.4, torch.Generator().manual_seed(0))
    ours = jitter_levels(x, factors, orders)
    for i in range(12):
        image = Image.fromarray(levels[i])
        for kind in orders[i].tolist():
            image = ENHANCE[kind](image).enhance(float(factors[i, kind]))
        np.testing.assert_array_equal(ours[i].permute(1, 2, 0).numpy(), np.asarray(image))
    brighter = float((255 * jitter(x / 255, factors, orders) - ours).mean())
    assert 1 < brighter < 2  # grey levels that floats are above whole levels


def test_an_augmentation_of_whole_levels_gives_whole_levels() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3), dtype=np.uint8))
    for name in ("resized-flip-8bit", "resized-jitter-flip-8bit", "padded8-jitter-flip-8bit"):
        x = 255 * augment(
            images[:, :30, :30], "feat", 30, torch.Generator().manual_seed(0), augmentation(name)
        )
        torch.testing.assert_close(x, x.round(), rtol=0, atol=1e-4)


def test_a_pipeline_may_begin_with_the_squares_of_its_authors_files(tmp_path: Path) -> None:
    store = photographs(tmp_path)
    assert store.prepared is not None and store.prepared.manifest.has_originals
    shown = store.prepared.select(["oak"], "bml-mini", 84)
    squares = store.prepared.map("stored", 84)
    for i in range(len(SHAPES)):
        np.testing.assert_array_equal(shown.pixels[i], SHORT_92(Image.fromarray(squares[i]), 84))
    assert shown.cut_from(84, "bml-mini") == 84
    whole = shown.whole(84, view="bml-mini")
    np.testing.assert_array_equal(whole.store.pixels, squares)
    assert whole.extents.tolist() == [[84, 84]] * len(SHAPES)


def test_such_a_pipeline_needs_the_squares_alone(tmp_path: Path) -> None:
    kept = photographs(tmp_path / "a").prepared
    small = photographs(tmp_path / "b", "stored", 84, has_originals=False)
    assert kept is not None and small.prepared is not None
    without = small.prepared.select(["oak"], "bml-mini", 84)
    np.testing.assert_array_equal(without.pixels, kept.select(["oak"], "bml-mini", 84).pixels)
    assert without.cut_from(84, "bml-mini") == 84 and without.cut_from(84, "bml") == 0
    assert maps.is_whole(maps.map_path(small.prepared.folder, STRAIGHT, 84))
    with pytest.raises(DataError, match="holds no pixels of `short92` at 84"):
        small.prepared.select(["oak"], "bml", 84)
